// Backend: the few data movements that a transport (Gloo, NCCL) supplies to Communicator. Blocking;
// all tensors are contiguous, of any dtype. Implementations throw std::exception on failure.
#ifndef LATHE_COMM_BACKEND_H_
#define LATHE_COMM_BACKEND_H_

#include <vector>

#include "ATen/core/Tensor.h"

namespace lathe {

// One half of a point-to-point exchange: `tensor` travels to or comes from `peer` (a rank within
// the group).
struct Transfer {
  at::Tensor tensor;
  int peer = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // Whether the other ranks are not there (rehearsal_backend.h).
  virtual bool rehearses() const { return false; }

  // out = the ranks' `in`, in rank order; out.numel() == size * in.numel().
  virtual void AllGather(const at::Tensor& in, at::Tensor& out) = 0;
  // Piece j of `in` goes to rank j; piece j of `out` comes from rank j; `size` equal pieces.
  virtual void AllToAll(const at::Tensor& in, at::Tensor& out) = 0;
  virtual void Broadcast(at::Tensor& tensor, int root) = 0;
  // Posts every transfer, then waits for all of them. Between two ranks, transfers match in list
  // order.
  virtual void Exchange(std::vector<Transfer>& sends, std::vector<Transfer>& receives) = 0;
  virtual void Barrier() = 0;
};

}  // namespace lathe

#endif  // LATHE_COMM_BACKEND_H_
