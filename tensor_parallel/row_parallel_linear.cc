#include "lathe/tensor_parallel/row_parallel_linear.h"

#include "ATen/ops/add.h"
#include "ATen/ops/empty.h"
#include "c10/util/Exception.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/gradient_sink.h"
#include "lathe/layers/linear.h"
#include "lathe/layers/precision.h"
#include "lathe/tensor_parallel/regions.h"

namespace lathe {
namespace {

at::Tensor AddBias(const at::Tensor& x, Parameter& bias) {
  const at::Tensor b = bias.tensor();
  at::Tensor y = NoGrad([&] { return at::add(x, b); });
  if (!RecordsGradient({x, b})) return y;
  if (bias.trainable()) bias.BeginUse();
  return Record("AddBias", {x, b}, std::move(y), [&bias](const at::Tensor& dy) -> TensorList {
    if (bias.trainable()) {
      bias.sink()->Accumulate(bias, [dy](at::Tensor& accumulator, bool overwrite) {
        AccumulateValue(accumulator, overwrite,
                        dy.reshape({-1, dy.size(-1)}).sum(0, false, UpcastType(dy.scalar_type())));
      });
    }
    return {dy, at::Tensor()};
  });
}

}  // namespace

RowParallelLinear::RowParallelLinear(const LinearOptions& options, const Communicator& tp,
                                     at::TensorOptions tensor_options)
    : tp_(tp) {
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
  }
}

at::Tensor RowParallelLinear::Forward(const at::Tensor& x) {
  // Alone, the bias rides along in the product; with peers it may only be added after the sum.
  if (tp_.size() == 1) return Linear(x, *weight_, bias_.get());
  const at::Tensor sum = ReduceFromRegion(Linear(x, *weight_, nullptr), tp_);
  return bias_ ? AddBias(sum, *bias_) : sum;
}

std::vector<Parameter*> RowParallelLinear::parameters() {
  std::vector<Parameter*> list{weight_.get()};
  if (bias_) list.push_back(bias_.get());
  return list;
}

}  // namespace lathe
