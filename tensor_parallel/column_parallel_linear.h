// ColumnParallelLinear: Y = X·Aᵀ + b with A's rows (output features) split over the tensor ranks.
//
//   ColumnParallelLinear up({.name = "model.layers.0.mlp.up_proj", .in = 256, .out = 704, .bias =
//   false,
//                            .init = Initializer::Normal(0.02)}, tp, at::kFloat);
//   at::Tensor y = up.Forward(x);     // [..., 704 / tp]: this rank's output features
//
// Usually followed by a RowParallelLinear, which takes exactly that slice. With a group of one it
// is a plain linear layer. Source: Megatron-LM section 3; Megatron Core tensor_parallel/layers.py.
#ifndef LATHE_TENSOR_PARALLEL_COLUMN_PARALLEL_LINEAR_H_
#define LATHE_TENSOR_PARALLEL_COLUMN_PARALLEL_LINEAR_H_

#include <memory>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "lathe/comm/communicator.h"
#include "lathe/layers/adapter_point.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/parameter.h"

namespace lathe {

struct LinearOptions {
  std::string name;  // of the module; parameters are name.weight and name.bias
  int64_t in = 0;
  int64_t out = 0;
  bool bias = false;
  Initializer init;  // of the weight; a bias starts at 0
  // What lies outside of the region, a column layer's input and a row layer's output, is split over
  // the tensor ranks along the sequence (dim 1 of [batch, seq, features]).
  bool sequence_parallel = false;
  // Column layers: into how many slices the output features fall, where that is less than one per
  // rank (KV heads); size / num_slices consecutive ranks then hold the same slice. 0: one per rank.
  int num_slices = 0;
};

class ColumnParallelLinear {
 public:
  // `tp` must outlive the layer; `tensor_options`: dtype and device. options.out must divide by the
  // number of slices, and tp.size() too (TORCH_CHECK; configurations are validated where they are
  // read).
  ColumnParallelLinear(const LinearOptions& options, const Communicator& tp,
                       at::TensorOptions tensor_options);

  // x: [..., in], the same on all ranks; under sequence parallelism [batch, seq / size, in].
  // Returns
  // [..., out / size] (out / num_slices): this rank's output features, of the whole sequence.
  //
  // Backward starts the sum of the input's gradient over the ranks, computes the weights' gradients
  // while it is on its way, and keeps of a split sequence this rank's part only, which it gathers
  // again.
  at::Tensor Forward(const at::Tensor& x) { return ForwardTogether({this}, x)[0]; }

  // The outputs of several layers with one input (q, k and v; gate and up): one collective, where
  // each alone would have its own. The layers have the same `in`, group and sequence_parallel.
  static TensorList ForwardTogether(const std::vector<ColumnParallelLinear*>& layers,
                                    const at::Tensor& x);

  Parameter& weight() { return *weight_; }  // [out / size, in]
  AdapterPoint& adapters() { return *adapters_; }
  // Those of adapters come last.
  std::vector<Parameter*> parameters();

 private:
  static TensorList ForwardAdapted(const std::vector<ColumnParallelLinear*>& layers,
                                   const at::Tensor& x);

  const Communicator& tp_;
  const bool sequence_parallel_;
  std::unique_ptr<Parameter> weight_;
  std::unique_ptr<Parameter> bias_;
  std::unique_ptr<AdapterPoint> adapters_;
};

}  // namespace lathe

#endif  // LATHE_TENSOR_PARALLEL_COLUMN_PARALLEL_LINEAR_H_
