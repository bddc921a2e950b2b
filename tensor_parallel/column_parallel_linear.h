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
#include "lathe/layers/parameter.h"

namespace lathe {

struct LinearOptions {
  std::string name;  // of the module; parameters are name.weight and name.bias
  int64_t in = 0;
  int64_t out = 0;
  bool bias = false;
  Initializer init;  // of the weight; a bias starts at 0
};

class ColumnParallelLinear {
 public:
  // `tp` must outlive the layer; `tensor_options`: dtype and device. options.out must divide by
  // tp.size() (TORCH_CHECK; configurations are validated where they are read).
  ColumnParallelLinear(const LinearOptions& options, const Communicator& tp,
                       at::TensorOptions tensor_options);

  // x: [..., in], the same on all ranks. Returns [..., out / size].
  at::Tensor Forward(const at::Tensor& x);

  Parameter& weight() { return *weight_; }  // [out / size, in]
  std::vector<Parameter*> parameters();

 private:
  const Communicator& tp_;
  std::unique_ptr<Parameter> weight_;
  std::unique_ptr<Parameter> bias_;
};

}  // namespace lathe

#endif  // LATHE_TENSOR_PARALLEL_COLUMN_PARALLEL_LINEAR_H_
