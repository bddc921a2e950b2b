// Region operators (Megatron-LM, Shoeybi et al. 2019, section 3): conjugate pairs that move
// activations into and out of the region in which each tensor rank works on its own shard. With a
// group of one each is the identity.
//
//   operator                       forward         backward
//   CopyToRegion                   identity        all-reduce
//   ReduceFromRegion               all-reduce      identity
//   ScatterToRegion                take my slice   all-gather      (last dim)
//   GatherFromRegion               all-gather      take my slice   (last dim)
//   GatherFromSequenceRegion       all-gather      reduce-scatter  (dim 1)
//   ReduceScatterToSequenceRegion  reduce-scatter  all-gather      (dim 1)
//
// The last two replace the first two under sequence parallelism (Korthikanti et al. 2022, "Reducing
// Activation Recomputation in Large Transformer Models"): between regions each rank has its part of
// the sequence only. They move as many bytes.
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

// x: [batch, seq / size, ...], each rank's part of the sequence. Returns [batch, seq, ...] on all
// ranks. Its gradient is the sum of the ranks' gradients, my part of it.
at::Tensor GatherFromSequenceRegion(const at::Tensor& x, const Communicator& group);

// x: [batch, seq, ...], each rank's part of a sum, seq divisible by the group's size. Returns my
// part of the sequence of the sum: [batch, seq / size, ...].
at::Tensor ReduceScatterToSequenceRegion(const at::Tensor& x, const Communicator& group);

// The layouts of the two, for layers that call the collectives themselves; not recorded.
// [batch, seq, ...] → [size * batch, seq / size, ...], contiguous: what a reduce-scatter takes.
at::Tensor SplitSequence(const at::Tensor& x, int size);
// [size, batch, part, ...], as an all-gather gives it → [batch, size * part, ...].
at::Tensor JoinSequence(const at::Tensor& parts);

}  // namespace lathe

#endif  // LATHE_TENSOR_PARALLEL_REGIONS_H_
