#include "lathe/tensor_parallel/column_parallel_linear.h"

#include <algorithm>
#include <utility>

#include "ATen/ops/addmm.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/mm.h"
#include "c10/util/Exception.h"
#include "lathe/layers/linear.h"
#include "lathe/tensor_parallel/regions.h"

namespace lathe {
namespace {

at::Tensor Rows(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

at::Tensor Product(const at::Tensor& x, const Parameter& weight, const Parameter* bias) {
  const at::Tensor w = weight.tensor();
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = w.size(0);
  const at::Tensor rows = Rows(x);
  return (bias != nullptr ? at::addmm(bias->tensor(), rows, w.t()) : at::mm(rows, w.t()))
      .view(shape);
}

}  // namespace

ColumnParallelLinear::ColumnParallelLinear(const LinearOptions& options, const Communicator& tp,
                                           at::TensorOptions tensor_options)
    : tp_(tp), sequence_parallel_(options.sequence_parallel) {
  const int slices = options.num_slices == 0 ? tp.size() : options.num_slices;
  TORCH_CHECK(options.out % slices == 0 && tp.size() % slices == 0, options.name, ": ", slices,
              " slices do not divide ", options.out, " output features and ", tp.size(),
              " tensor ranks");
  const int copies = tp.size() / slices;  // of each slice, on consecutive ranks
  const int64_t rows = options.out / slices;
  const int64_t first = tp.rank() / copies * rows;
  const int replica = tp.rank() % copies;
  weight_ = std::make_unique<Parameter>(
      options.name + ".weight", std::vector<int64_t>{options.out, options.in},
      ShardSpec::Slice({options.out, options.in}, 0, first, rows, replica),
      at::empty({rows, options.in}, tensor_options), options.init);
  if (options.bias) {
    bias_ = std::make_unique<Parameter>(options.name + ".bias", std::vector<int64_t>{options.out},
                                        ShardSpec::Slice({options.out}, 0, first, rows, replica),
                                        at::empty({rows}, tensor_options), Initializer::Zeros());
  }
  adapters_ = std::make_unique<AdapterPoint>(options.name, AdapterPoint::Split::kOutput, tp.rank(),
                                             *weight_, bias_.get());
  if (copies == 1) return;
  // Each copy serves other query heads.
  for (Parameter* parameter : parameters()) {
    parameter->set_partial_sums({{.axis = "tp", .block = copies}});
  }
}

// The same in steps between which adapters come. The input's gradient is still summed over the
// ranks once, the adapters' part with it.
TensorList ColumnParallelLinear::ForwardAdapted(const std::vector<ColumnParallelLinear*>& layers,
                                                const at::Tensor& x) {
  const Communicator& tp = layers[0]->tp_;
  const at::Tensor whole =
      layers[0]->sequence_parallel_ ? GatherFromSequenceRegion(x, tp) : CopyToRegion(x, tp);
  TensorList outputs;
  for (ColumnParallelLinear* layer : layers) {
    at::Tensor y = Linear(whole, *layer->weight_, /*bias=*/nullptr);
    y = layer->adapters_->OnPartial(whole, std::move(y));
    outputs.push_back(layer->bias_ ? AddBias(y, *layer->bias_) : std::move(y));
  }
  return outputs;
}

TensorList ColumnParallelLinear::ForwardTogether(const std::vector<ColumnParallelLinear*>& layers,
                                                 const at::Tensor& x) {
  const bool adapted = std::any_of(layers.begin(), layers.end(),
                                   [](const auto* layer) { return !layer->adapters_->empty(); });
  if (adapted) return ForwardAdapted(layers, x);
  const Communicator& tp = layers[0]->tp_;
  const bool split = layers[0]->sequence_parallel_ && tp.size() > 1;
  TensorList inputs{x}, outputs;
  bool needs_x = false;
  {
    at::NoGradGuard no_grad;
    const at::Tensor whole = split ? JoinSequence(tp.AllGather(x.contiguous())) : x;
    for (const ColumnParallelLinear* layer : layers) {
      outputs.push_back(Product(whole, *layer->weight_, layer->bias_.get()));
      inputs.push_back(layer->weight_->tensor());
      if (layer->bias_) inputs.push_back(layer->bias_->tensor());
      needs_x = needs_x || layer->weight_->trainable();
    }
  }
  if (!RecordsGradient(inputs)) return outputs;
  for (ColumnParallelLinear* layer : layers) BeginLinearUse(*layer->weight_, layer->bias_.get());

  auto backward = [layers, &tp, split, x = needs_x ? x.detach() : at::Tensor(),
                   needs_dx = x.requires_grad(), shape = x.sizes().vec(),
                   num_inputs = inputs.size()](const TensorList& grads) {
    PendingTensor gathered;
    if (split && x.defined()) gathered = tp.AllGatherAsync(x.contiguous());
    std::vector<std::pair<ColumnParallelLinear*, at::Tensor>> used;  // with its dy [rows, out]
    for (size_t i = 0; i < layers.size(); ++i) {
      if (grads[i].defined()) used.emplace_back(layers[i], Rows(grads[i]));
    }
    at::Tensor dx;
    PendingCollective sum;
    PendingTensor my_sum;
    if (needs_dx) {
      for (const auto& [layer, dy] : used) {
        const at::Tensor w = layer->weight_->tensor();
        dx = dx.defined() ? dx.addmm_(dy, w) : at::mm(dy, w);
      }
      if (split) {
        const at::Tensor whole = dx.view({shape[0], shape[1] * tp.size(), shape[2]});
        my_sum = tp.ReduceScatterAsync(SplitSequence(whole, tp.size()));
      } else {
        sum = tp.AllReduceAsync(dx);
      }
    }
    // While the sum is on its way.
    at::Tensor rows;
    if (x.defined()) rows = Rows(split ? JoinSequence(gathered.Wait()) : x);
    for (const auto& [layer, dy] : used) {
      SinkWeightGradient(rows, dy, *layer->weight_);
      SinkBiasGradient(dy, layer->bias_.get());
    }
    TensorList input_grads(num_inputs);
    sum.Wait();
    if (needs_dx) input_grads[0] = split ? my_sum.Wait() : dx.view(shape);
    return input_grads;
  };
  return RecordMany("ColumnParallelLinear", inputs, std::move(outputs), std::move(backward));
}

std::vector<Parameter*> ColumnParallelLinear::parameters() {
  std::vector<Parameter*> list{weight_.get()};
  if (bias_) list.push_back(bias_.get());
  for (Parameter* parameter : adapters_->parameters()) list.push_back(parameter);
  return list;
}

}  // namespace lathe
