// AdapterPoint: where a linear layer takes adapters: small trainable parts that change what it
// gives while its own weight stays as it is.
//
//   // A model offers its layers as it makes them:
//   StageOptions options{.on_layer = [&](AdapterPoint& point) {
//     if (point.module() == "model.layers.0.self_attn.q_proj") point.Add(MakeAdapter(point));
//   }};
//
// A layer without adapters costs and computes what it would without the point.
//
// Thread rule: that of the layer.
#ifndef LATHE_LAYERS_ADAPTER_POINT_H_
#define LATHE_LAYERS_ADAPTER_POINT_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ATen/core/Tensor.h"
#include "lathe/layers/parameter.h"

namespace lathe {

class LayerAdapter {
 public:
  virtual ~LayerAdapter() = default;

  // What the layer gives with this adapter. x [..., in]: what the layer multiplies, y [..., out]:
  // the product, as this tensor rank has them: before the bias, and, of a layer whose input
  // features are split, before the sum over the ranks. May write into y's memory, which nobody else
  // reads. Recorded.
  virtual at::Tensor OnPartial(const at::Tensor& x, const at::Tensor& y) = 0;

  virtual std::vector<Parameter*> parameters() = 0;
};

class AdapterPoint {
 public:
  // Which side of the weight [out, in] is split over the tensor ranks.
  enum class Split { kOutput, kInput };

  // `weight` and `bias` (null: none) must outlive the point. `tp_rank`: this tensor rank.
  AdapterPoint(std::string module, Split split, int tp_rank, Parameter& weight, Parameter* bias)
      : module_(std::move(module)),
        split_(split),
        tp_rank_(tp_rank),
        weight_(weight),
        bias_(bias) {}

  const std::string& module() const { return module_; }  // "model.layers.0.self_attn.q_proj"
  Split split() const { return split_; }
  int tp_rank() const { return tp_rank_; }
  Parameter& weight() { return weight_; }
  Parameter* bias() { return bias_; }

  // Adapters are applied in the order in which they were added.
  void Add(std::unique_ptr<LayerAdapter> adapter) { adapters_.push_back(std::move(adapter)); }
  bool empty() const { return adapters_.empty(); }

  at::Tensor OnPartial(const at::Tensor& x, at::Tensor y) {
    for (const auto& adapter : adapters_) y = adapter->OnPartial(x, y);
    return y;
  }

  // Of all adapters.
  std::vector<Parameter*> parameters() {
    std::vector<Parameter*> all;
    for (const auto& adapter : adapters_) {
      for (Parameter* parameter : adapter->parameters()) all.push_back(parameter);
    }
    return all;
  }

 private:
  std::string module_;
  Split split_;
  int tp_rank_;
  Parameter& weight_;
  Parameter* bias_;
  std::vector<std::unique_ptr<LayerAdapter>> adapters_;
};

}  // namespace lathe

#endif  // LATHE_LAYERS_ADAPTER_POINT_H_
