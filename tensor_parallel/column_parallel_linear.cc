#include "lathe/tensor_parallel/column_parallel_linear.h"

#include "ATen/ops/empty.h"
#include "c10/util/Exception.h"
#include "lathe/layers/linear.h"
#include "lathe/tensor_parallel/regions.h"

namespace lathe {

ColumnParallelLinear::ColumnParallelLinear(const LinearOptions& options, const Communicator& tp,
                                           at::TensorOptions tensor_options)
    : tp_(tp) {
  TORCH_CHECK(options.out % tp.size() == 0, options.name, ": ", options.out,
              " output features do not divide by ", tp.size(), " tensor ranks");
  const int64_t rows = options.out / tp.size();
  const int64_t first = tp.rank() * rows;
  weight_ = std::make_unique<Parameter>(
      options.name + ".weight", std::vector<int64_t>{options.out, options.in},
      ShardSpec::Slice({options.out, options.in}, 0, first, rows),
      at::empty({rows, options.in}, tensor_options), options.init);
  if (options.bias) {
    bias_ = std::make_unique<Parameter>(options.name + ".bias", std::vector<int64_t>{options.out},
                                        ShardSpec::Slice({options.out}, 0, first, rows),
                                        at::empty({rows}, tensor_options), Initializer::Zeros());
  }
}

at::Tensor ColumnParallelLinear::Forward(const at::Tensor& x) {
  return Linear(CopyToRegion(x, tp_), *weight_, bias_.get());
}

std::vector<Parameter*> ColumnParallelLinear::parameters() {
  std::vector<Parameter*> list{weight_.get()};
  if (bias_) list.push_back(bias_.get());
  return list;
}

}  // namespace lathe
