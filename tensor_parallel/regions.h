// Region operators (Megatron-LM, Shoeybi et al. 2019, section 3): conjugate pairs that move
// activations into and out of the region in which each tensor rank works on its own shard. With a
// group of one each is the identity.
//
//   operator            forward        backward
//   CopyToRegion        identity       all-reduce
//   ReduceFromRegion    all-reduce     identity
//   ScatterToRegion     take my slice  all-gather      (last dim)
//   GatherFromRegion    all-gather     take my slice   (last dim)
//
// Errors: CollectiveError, thrown, in forward or backward. All ranks of the group make the same
// calls.
#ifndef LATHE_TENSOR_PARALLEL_REGIONS_H_
#define LATHE_TENSOR_PARALLEL_REGIONS_H_

#include "ATen/core/Tensor.h"
#include "lathe/comm/communicator.h"

namespace lathe {

// x: the same tensor on all ranks. Its gradient is the sum of the ranks' gradients.
at::Tensor CopyToRegion(const at::Tensor& x, const Communicator& group);

// x: each rank's part of a sum, any shape. Returns the sum on all ranks.
at::Tensor ReduceFromRegion(const at::Tensor& x, const Communicator& group);

// x: [..., n], the same on all ranks, n divisible by the group's size. Returns [..., n / size].
at::Tensor ScatterToRegion(const at::Tensor& x, const Communicator& group);

// x: [..., n], each rank's slice. Returns [..., n * size] on all ranks.
at::Tensor GatherFromRegion(const at::Tensor& x, const Communicator& group);

}  // namespace lathe

#endif  // LATHE_TENSOR_PARALLEL_REGIONS_H_
