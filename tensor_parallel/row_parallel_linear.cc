#include "lathe/tensor_parallel/row_parallel_linear.h"

#include <utility>

#include "ATen/ops/empty.h"
#include "ATen/ops/mm.h"
#include "c10/util/Exception.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/linear.h"
#include "lathe/tensor_parallel/regions.h"

namespace lathe {

RowParallelLinear::RowParallelLinear(const LinearOptions& options, const Communicator& tp,
                                     at::TensorOptions tensor_options)
    : tp_(tp), sequence_parallel_(options.sequence_parallel) {
  TORCH_CHECK(options.in % tp.size() == 0, options.name, ": ", options.in,
              " input features do not divide by ", tp.size(), " tensor ranks");
  const int64_t columns = options.in / tp.size();
  weight_ = std::make_unique<Parameter>(
      options.name + ".weight", std::vector<int64_t>{options.out, options.in},
      ShardSpec::Slice({options.out, options.in}, 1, tp.rank() * columns, columns),
      at::empty({options.out, columns}, tensor_options), options.init);
  if (options.bias) {
    bias_ =
        std::make_unique<Parameter>(options.name + ".bias", std::vector<int64_t>{options.out},
                                    ShardSpec::Whole({options.out}, /*replica=*/tp.rank()),
                                    at::empty({options.out}, tensor_options), Initializer::Zeros());
    if (sequence_parallel_) bias_->set_partial_sums({{.axis = "tp"}});
  }
  adapters_ = std::make_unique<AdapterPoint>(options.name, AdapterPoint::Split::kInput, tp.rank(),
                                             *weight_, bias_.get());
}

// The same in steps between which adapters come, whose part joins the layer's own sum.
at::Tensor RowParallelLinear::ForwardAdapted(const at::Tensor& x) {
  at::Tensor y = Linear(x, *weight_, /*bias=*/nullptr);
  y = adapters_->OnPartial(x, std::move(y));
  y = sequence_parallel_ ? ReduceScatterToSequenceRegion(y, tp_) : ReduceFromRegion(y, tp_);
  return bias_ ? AddBias(y, *bias_) : y;
}

at::Tensor RowParallelLinear::Forward(const at::Tensor& x) {
  if (!adapters_->empty()) return ForwardAdapted(x);
  const at::Tensor w = weight_->tensor(), b = bias_ ? bias_->tensor() : at::Tensor();
  const bool split = sequence_parallel_ && tp_.size() > 1;
  const at::Tensor rows = NoGrad([&] { return x.detach().reshape({-1, w.size(1)}); });
  at::Tensor y = NoGrad([&] {
    std::vector<int64_t> shape = x.sizes().vec();
    shape.back() = w.size(0);
    at::Tensor sum = at::mm(rows, w.t()).view(shape);
    if (split) {
      sum = tp_.ReduceScatter(SplitSequence(sum, tp_.size()));
    } else {
      tp_.AllReduce(sum);
    }
    return b.defined() ? sum.add_(b) : sum;  // once, hence after the sum
  });
  if (!RecordsGradient({x, w, b})) return y;
  BeginLinearUse(*weight_, bias_.get());

  auto backward = [this, split, rows = weight_->trainable() ? rows : at::Tensor(),
                   needs_dx = x.requires_grad(),
                   shape = x.sizes().vec()](const at::Tensor& grad) -> TensorList {
    SinkBiasGradient(grad.reshape({-1, grad.size(-1)}), bias_.get());
    const at::Tensor whole = split ? JoinSequence(tp_.AllGather(grad.contiguous())) : grad;
    const at::Tensor dy = whole.reshape({-1, grad.size(-1)});
    at::Tensor dx;
    if (needs_dx) dx = at::mm(dy, weight_->tensor()).view(shape);
    SinkWeightGradient(rows, dy, *weight_);
    return {dx, at::Tensor(), at::Tensor()};
  };
  return Record("RowParallelLinear", {x, w, b}, std::move(y), std::move(backward));
}

std::vector<Parameter*> RowParallelLinear::parameters() {
  std::vector<Parameter*> list{weight_.get()};
  if (bias_) list.push_back(bias_.get());
  for (Parameter* parameter : adapters_->parameters()) list.push_back(parameter);
  return list;
}

}  // namespace lathe
