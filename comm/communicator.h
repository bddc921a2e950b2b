// Communicator: collectives over one group of ranks (a row of the ProcessMesh along one or more
// axes).
//
//   const Communicator& dp = context.Group({"dp"});
//   dp.AllReduce(loss);                              // in place; the same bits on every rank
//   auto pending = dp.AllReduceAsync(bucket);        // on the communicator's own thread
//   pending.Wait();                                  // rethrows what went wrong there
//
// A group of size 1 is the identity: every call returns at once, so callers never ask for the size.
// Sums are local sums in rank order after an all-to-all, in max(dtype, fp32), rounded once:
// deterministic, equal on all ranks, and half the traffic of Gloo's own reduce_scatter. All-reduce
// is that plus an all-gather.
//
// Order rule: all ranks of a group make the same calls in the same order. Asynchronous calls run in
// call order on one thread; a blocking call first waits for them. Thread rule: one rank calls a
// communicator from one thread at a time. Errors: every collective throws CollectiveError (they run
// inside backward, where a Status cannot travel).
#ifndef LATHE_COMM_COMMUNICATOR_H_
#define LATHE_COMM_COMMUNICATOR_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ATen/core/Tensor.h"
#include "lathe/base/beacon.h"
#include "lathe/comm/backend.h"

namespace lathe {

class CollectiveError : public std::runtime_error {
 public:
  // `detail` is the transport's own message.
  CollectiveError(std::string group, std::string op, int rank, int64_t step,
                  const std::string& detail);
  const std::string& group() const { return group_; }
  const std::string& op() const { return op_; }
  int rank() const { return rank_; }      // global rank that saw the failure
  int64_t step() const { return step_; }  // training step, -1 outside of one

 private:
  std::string group_, op_;
  int rank_;
  int64_t step_;
};

class PendingCollective {
 public:
  PendingCollective() = default;
  // `op` and `group` are what a rank that waits shows on its beacon (lathe/base/beacon.h). `held`
  // is let go when this is waited for, not before, so that memory depends on the caller alone and
  // not on how fast other ranks are.
  PendingCollective(std::shared_future<void> done, const char* op, std::string group,
                    std::vector<at::Tensor> held)
      : done_(std::move(done)),
        op_(op),
        group_(std::move(group)),
        held_(std::make_shared<std::vector<at::Tensor>>(std::move(held))) {}
  // Returns when the collective is complete; throws its CollectiveError. Idempotent.
  void Wait() const {
    if (done_.valid()) {
      const InCollective waits(op_, group_);
      done_.get();
    }
    if (held_ != nullptr) held_->clear();
  }

 private:
  std::shared_future<void> done_;
  const char* op_ = "";
  std::string group_;
  std::shared_ptr<std::vector<at::Tensor>> held_;
};

// A tensor that an asynchronous collective makes.
class PendingTensor {
 public:
  PendingTensor() = default;
  // `tensor` is filled in by the time that `done` is.
  PendingTensor(std::shared_ptr<at::Tensor> tensor, PendingCollective done)
      : tensor_(std::move(tensor)), done_(std::move(done)) {}
  // The tensor, when it is complete; throws its CollectiveError.
  at::Tensor Wait() const {
    done_.Wait();
    return *tensor_;
  }

 private:
  std::shared_ptr<at::Tensor> tensor_;
  PendingCollective done_;
};

enum class ReduceOp { kSum, kMax, kMin };

class Communicator {
 public:
  // A group of one.
  Communicator();
  // `name` appears in errors and logs ("dp", "tp"); `ranks` are the global ranks, this one being
  // ranks[rank].
  Communicator(std::string name, std::vector<int> ranks, int rank,
               std::unique_ptr<Backend> backend);
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  const std::string& name() const { return name_; }
  int rank() const { return rank_; }
  int size() const { return static_cast<int>(ranks_.size()); }
  const std::vector<int>& global_ranks() const { return ranks_; }

  // tensor ← reduction over the ranks, in place. Any shape and dtype, contiguous.
  void AllReduce(at::Tensor tensor, ReduceOp op = ReduceOp::kSum) const;
  PendingCollective AllReduceAsync(at::Tensor tensor, ReduceOp op = ReduceOp::kSum) const;

  // tensor ← the sum over this rank's block: `block` consecutive ranks, of which the group's size
  // is a multiple. All ranks of the group call it. Each rank sends its tensor to the block's
  // others.
  void AllReduceInBlocks(at::Tensor tensor, int block) const;

  // Returns [size, ...shape of `in`]: entry j is rank j's tensor. All ranks give the same shape and
  // dtype; contiguous.
  at::Tensor AllGather(const at::Tensor& in) const;
  PendingTensor AllGatherAsync(const at::Tensor& in) const;
  // `out`: [size * n], contiguous: slice j ← rank j's `in` [n].
  PendingCollective AllGatherIntoAsync(at::Tensor in, at::Tensor out) const;
  // `flat`: [size * n], contiguous: slice j ← rank j's own slice j. In place.
  PendingCollective AllGatherInPlaceAsync(at::Tensor flat) const;

  // `in`: [size * n, ...], contiguous. Returns [n, ...]: this rank's slice of the sum.
  at::Tensor ReduceScatter(const at::Tensor& in, ReduceOp op = ReduceOp::kSum) const;
  PendingTensor ReduceScatterAsync(const at::Tensor& in, ReduceOp op = ReduceOp::kSum) const;

  // `in`: [size * n, ...], slice j for rank j. Returns the same shape, slice j from rank j.
  at::Tensor AllToAll(const at::Tensor& in) const;

  // tensor ← root's tensor (`root` within the group), in place, contiguous.
  void Broadcast(at::Tensor tensor, int root) const;

  // Posts all sends and receives together and waits; tensors contiguous. Two ranks' lists match in
  // order.
  void Exchange(std::vector<Transfer> sends, std::vector<Transfer> receives) const;
  PendingCollective ExchangeAsync(std::vector<Transfer> sends,
                                  std::vector<Transfer> receives) const;

  void Barrier() const;

  // Payload bytes that this rank has sent to others through this communicator.
  uint64_t bytes_sent() const { return bytes_sent_; }
  // Time spent in this communicator's collectives, waiting for other ranks included, on whichever
  // thread they ran.
  double seconds() const { return 1e-9 * static_cast<double>(nanoseconds_); }

  // The step that errors report; set by the trainer.
  void set_step(int64_t step) const { step_ = step; }

 private:
  class Worker;
  // Runs `body` (blocking) after pending asynchronous calls; translates exceptions.
  void Run(const char* op, const std::function<void()>& body) const;
  void Guarded(const char* op, const std::function<void()>& body) const;
  // Runs `body` on the communicator's own thread.
  PendingCollective Post(const char* op, std::function<void()> body,
                         std::vector<at::Tensor> held = {}) const;
  void ExchangeNow(std::vector<Transfer>& sends, std::vector<Transfer>& receives) const;
  at::Tensor AllGatherNow(const at::Tensor& in) const;
  struct Scatter;  // the memory of a reduce-scatter
  Scatter NewScatter(const at::Tensor& in) const;
  void RunScatter(Scatter& scatter, ReduceOp op) const;
  Scatter NewAllReduce(const at::Tensor& tensor) const;
  void RunAllReduce(at::Tensor& tensor, Scatter& scatter, ReduceOp op) const;

  std::string name_;
  std::vector<int> ranks_;
  int rank_ = 0;
  std::unique_ptr<Backend> backend_;
  mutable std::unique_ptr<Worker> worker_;  // made by the first asynchronous call
  mutable std::atomic<uint64_t> bytes_sent_{0};
  mutable std::atomic<int64_t> nanoseconds_{0};
  mutable std::atomic<int64_t> step_{-1};
};

}  // namespace lathe

#endif  // LATHE_COMM_COMMUNICATOR_H_
