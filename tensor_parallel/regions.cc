#include "lathe/tensor_parallel/regions.h"

#include <utility>

#include "c10/util/Exception.h"
#include "lathe/layers/autograd.h"

namespace lathe {
namespace {

at::Tensor AllReduced(const at::Tensor& x, const Communicator& group) {
  at::Tensor sum = x.detach().clone(at::MemoryFormat::Contiguous);
  group.AllReduce(sum);
  return sum;
}

at::Tensor MySlice(const at::Tensor& x, const Communicator& group) {
  TORCH_CHECK(x.size(-1) % group.size() == 0, "the last dim, ", x.size(-1), ", does not divide by ",
              group.size(), " ranks");
  const int64_t n = x.size(-1) / group.size();
  return x.detach().narrow(-1, group.rank() * n, n).contiguous();
}

at::Tensor Gathered(const at::Tensor& x, const Communicator& group) {
  // [size, ..., n] → [..., size, n] → [..., size * n]
  const at::Tensor stacked = group.AllGather(x.detach().contiguous());
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() *= group.size();
  return stacked.movedim(0, -2).reshape(shape);
}

}  // namespace

at::Tensor CopyToRegion(const at::Tensor& x, const Communicator& group) {
  if (group.size() == 1 || !RecordsGradient({x})) return x;
  return Record("CopyToRegion", {x}, x.detach().view(x.sizes()),
                [&group](const at::Tensor& dy) -> TensorList { return {AllReduced(dy, group)}; });
}

at::Tensor ReduceFromRegion(const at::Tensor& x, const Communicator& group) {
  if (group.size() == 1) return x;
  at::Tensor y = AllReduced(x, group);
  if (!RecordsGradient({x})) return y;
  return Record("ReduceFromRegion", {x}, std::move(y),
                [](const at::Tensor& dy) -> TensorList { return {dy}; });
}

at::Tensor ScatterToRegion(const at::Tensor& x, const Communicator& group) {
  if (group.size() == 1) return x;
  at::Tensor y = MySlice(x, group);
  if (!RecordsGradient({x})) return y;
  return Record("ScatterToRegion", {x}, std::move(y),
                [&group](const at::Tensor& dy) -> TensorList { return {Gathered(dy, group)}; });
}

at::Tensor GatherFromRegion(const at::Tensor& x, const Communicator& group) {
  if (group.size() == 1) return x;
  at::Tensor y = Gathered(x, group);
  if (!RecordsGradient({x})) return y;
  return Record("GatherFromRegion", {x}, std::move(y),
                [&group](const at::Tensor& dy) -> TensorList { return {MySlice(dy, group)}; });
}

at::Tensor SplitSequence(const at::Tensor& x, int size) {
  const int64_t seq = x.size(1);
  TORCH_CHECK(seq % size == 0, "a sequence of ", seq, " does not divide by ", size, " ranks");
  std::vector<int64_t> shape = x.sizes().vec();
  shape[0] *= size;
  shape[1] /= size;
  return x.unflatten(1, {size, seq / size}).movedim(1, 0).reshape(shape).contiguous();
}

at::Tensor JoinSequence(const at::Tensor& parts) { return parts.movedim(0, 1).flatten(1, 2); }

at::Tensor GatherFromSequenceRegion(const at::Tensor& x, const Communicator& group) {
  if (group.size() == 1) return x;
  at::Tensor y = NoGrad([&] { return JoinSequence(group.AllGather(x.contiguous())); });
  if (!RecordsGradient({x})) return y;
  return Record("GatherFromSequenceRegion", {x}, std::move(y),
                [&group](const at::Tensor& dy) -> TensorList {
                  return {group.ReduceScatter(SplitSequence(dy, group.size()))};
                });
}

at::Tensor ReduceScatterToSequenceRegion(const at::Tensor& x, const Communicator& group) {
  if (group.size() == 1) return x;
  at::Tensor y = NoGrad([&] { return group.ReduceScatter(SplitSequence(x, group.size())); });
  if (!RecordsGradient({x})) return y;
  return Record("ReduceScatterToSequenceRegion", {x}, std::move(y),
                [&group](const at::Tensor& dy) -> TensorList {
                  return {JoinSequence(group.AllGather(dy.contiguous()))};
                });
}

}  // namespace lathe
