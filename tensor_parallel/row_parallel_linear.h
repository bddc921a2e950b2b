// RowParallelLinear: Y = X·Aᵀ + b with A's columns (input features) split over the tensor ranks:
// each rank multiplies its slice of X, the partial products are summed, and the bias is added once,
// after the sum.
//
//   RowParallelLinear down({.name = "model.layers.0.mlp.down_proj", .in = 704, .out = 256, ...},
//   tp, at::kFloat); at::Tensor y = down.Forward(h);   // h [..., 704 / tp], y [..., 256] on all
//   ranks
//
// Source: Megatron-LM section 3; Megatron Core tensor_parallel/layers.py.
#ifndef LATHE_TENSOR_PARALLEL_ROW_PARALLEL_LINEAR_H_
#define LATHE_TENSOR_PARALLEL_ROW_PARALLEL_LINEAR_H_

#include <memory>
#include <vector>

#include "ATen/core/Tensor.h"
#include "lathe/comm/communicator.h"
#include "lathe/layers/adapter_point.h"
#include "lathe/layers/parameter.h"
#include "lathe/tensor_parallel/column_parallel_linear.h"

namespace lathe {

class RowParallelLinear {
 public:
  // `tp` must outlive the layer. options.in must divide by tp.size() (TORCH_CHECK).
  RowParallelLinear(const LinearOptions& options, const Communicator& tp,
                    at::TensorOptions tensor_options);

  // x: [..., in / size], this rank's slice. Returns [..., out] on all ranks; under sequence
  // parallelism, of x [batch, seq, in / size], this rank's part of the sequence, [batch, seq /
  // size, out].
  at::Tensor Forward(const at::Tensor& x);

  Parameter& weight() { return *weight_; }  // [out, in / size]
  AdapterPoint& adapters() { return *adapters_; }
  // Those of adapters come last.
  std::vector<Parameter*> parameters();

 private:
  at::Tensor ForwardAdapted(const at::Tensor& x);

  const Communicator& tp_;
  const bool sequence_parallel_;
  std::unique_ptr<Parameter> weight_;
  // Replicated. Every rank computes the same gradient, or, of a split sequence, its part's.
  std::unique_ptr<Parameter> bias_;
  std::unique_ptr<AdapterPoint> adapters_;
};

}  // namespace lathe

#endif  // LATHE_TENSOR_PARALLEL_ROW_PARALLEL_LINEAR_H_
