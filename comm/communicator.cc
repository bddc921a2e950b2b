#include "lathe/comm/communicator.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "ATen/ThreadLocalState.h"
#include "ATen/core/grad_mode.h"
#include "ATen/ops/add.h"
#include "ATen/ops/amax.h"
#include "ATen/ops/amin.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/empty_like.h"
#include "absl/strings/str_cat.h"
#include "c10/util/Exception.h"
#include "lathe/base/beacon.h"

namespace lathe {
namespace {

std::string Describe(const std::string& group, const std::string& op, int rank, int64_t step,
                     const std::string& detail) {
  // The transport's message may hold a stack trace: its first line says what happened.
  return absl::StrCat("rank ", rank, ": ", op, " in group '", group, "'",
                      step >= 0 ? absl::StrCat(" at step ", step) : "",
                      " failed: ", detail.substr(0, detail.find('\n')));
}

// Half types are summed in fp32 and rounded once.
at::ScalarType SumType(at::ScalarType type) {
  return type == at::kHalf || type == at::kBFloat16 ? at::kFloat : type;
}

// Elements summed at a time in another type than they have.
constexpr int64_t kSumElements = 1 << 20;

// stacked: [size, n] -> out [n]. Reduces over ranks, in rank order for sums, so that every layout
// adds in the same order.
void ReduceStacked(const at::Tensor& stacked, ReduceOp op, at::Tensor& out) {
  if (op == ReduceOp::kMax || op == ReduceOp::kMin) {
    op == ReduceOp::kMax ? at::amax_out(out, stacked, 0) : at::amin_out(out, stacked, 0);
    return;
  }
  const int64_t size = stacked.size(0), n = stacked.size(1);
  const at::ScalarType type = stacked.scalar_type(), sum_type = SumType(type);
  if (sum_type == type) {
    at::add_out(out, stacked[0], stacked[1]);
    for (int64_t i = 2; i < size; ++i) out.add_(stacked[i]);
    return;
  }
  for (int64_t begin = 0; begin < n; begin += kSumElements) {
    const at::Tensor part = stacked.narrow(1, begin, std::min(kSumElements, n - begin));
    at::Tensor sum = part[0].to(sum_type);
    for (int64_t i = 1; i < size; ++i) sum.add_(part[i]);
    out.narrow(0, begin, part.size(1)).copy_(sum);
  }
}

// Adds the time until the end of its scope.
class AddTime {
 public:
  explicit AddTime(std::atomic<int64_t>& nanoseconds) : nanoseconds_(nanoseconds) {}
  ~AddTime() { nanoseconds_ += std::chrono::nanoseconds(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  std::atomic<int64_t>& nanoseconds_;
  const Clock::time_point start_ = Clock::now();
};

}  // namespace

CollectiveError::CollectiveError(std::string group, std::string op, int rank, int64_t step,
                                 const std::string& detail)
    : std::runtime_error(Describe(group, op, rank, step, detail)),
      group_(std::move(group)),
      op_(std::move(op)),
      rank_(rank),
      step_(step) {}

// One thread that runs asynchronous collectives in call order.
class Communicator::Worker {
 public:
  Worker() : thread_([this] { Loop(); }) {}

  ~Worker() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
      queue_
          .clear();  // on the way out after an error: each of these could wait for a whole timeout
    }
    changed_.notify_all();
    thread_.join();
  }

  std::shared_future<void> Post(std::function<void()> body) {
    std::packaged_task<void()> task(std::move(body));
    std::shared_future<void> done = task.get_future().share();
    {
      std::lock_guard<std::mutex> lock(mutex_);
      queue_.push_back(std::move(task));
    }
    changed_.notify_all();
    return done;
  }

  void Drain() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return queue_.empty() && !busy_; });
  }

 private:
  void Loop() {
    at::NoGradGuard no_grad;
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return stop_ || !queue_.empty(); });
      if (queue_.empty()) return;
      std::packaged_task<void()> task = std::move(queue_.front());
      queue_.pop_front();
      busy_ = true;
      lock.unlock();
      task();
      lock.lock();
      busy_ = false;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::packaged_task<void()>> queue_;
  bool busy_ = false;
  bool stop_ = false;
  std::thread thread_;
};

Communicator::Communicator() : name_("self"), ranks_{0} {}

Communicator::Communicator(std::string name, std::vector<int> ranks, int rank,
                           std::unique_ptr<Backend> backend)
    : name_(std::move(name)), ranks_(std::move(ranks)), rank_(rank), backend_(std::move(backend)) {
  TORCH_CHECK(rank_ >= 0 && rank_ < size(), "rank ", rank_, " is not within group ", name_);
  TORCH_CHECK(size() == 1 || backend_ != nullptr, "group ", name_, " has no backend");
}

Communicator::~Communicator() = default;

void Communicator::Guarded(const char* op, const std::function<void()>& body) const {
  const AddTime add_time(nanoseconds_);
  try {
    at::NoGradGuard no_grad;
    body();
  } catch (const CollectiveError&) {
    throw;
  } catch (const c10::Error& e) {
    throw CollectiveError(name_, op, ranks_[rank_], step_, e.what_without_backtrace());
  } catch (const std::exception& e) {
    throw CollectiveError(name_, op, ranks_[rank_], step_, e.what());
  }
}

void Communicator::Run(const char* op, const std::function<void()>& body) const {
  const InCollective waits(op, name_);
  if (worker_) worker_->Drain();
  Guarded(op, body);
}

struct Communicator::Scatter {
  at::Tensor in, pieces, out;
};

Communicator::Scatter Communicator::NewScatter(const at::Tensor& in) const {
  TORCH_CHECK(in.is_contiguous() && in.dim() > 0 && in.size(0) % size() == 0,
              "reduce-scatter needs a contiguous tensor whose dim 0 divides by ", size(), ", got ",
              in.sizes());
  std::vector<int64_t> shape = in.sizes().vec();
  shape[0] /= size();
  return {in, at::empty_like(in), at::empty(shape, in.options())};
}

void Communicator::RunScatter(Scatter& scatter, ReduceOp op) const {
  backend_->AllToAll(scatter.in, scatter.pieces);
  bytes_sent_ += scatter.in.nbytes() / size() * (size() - 1);
  at::Tensor flat = scatter.out.view({-1});
  ReduceStacked(scatter.pieces.view({size(), -1}), op, flat);
}

// The sum's own memory is that of a reduce-scatter, whose input is the tensor, or a padded copy.
Communicator::Scatter Communicator::NewAllReduce(const at::Tensor& tensor) const {
  TORCH_CHECK(tensor.is_contiguous(), "all-reduce needs a contiguous tensor");
  const int64_t n = tensor.numel();
  const int64_t padded = (n + size() - 1) / size() * size();
  at::Tensor flat = tensor.view({-1});
  if (padded != n) {
    flat = at::empty({padded}, tensor.options());
    flat.narrow(0, 0, n).copy_(tensor.view({-1}));
    flat.narrow(0, n, padded - n).zero_();
  }
  return NewScatter(flat);
}

void Communicator::RunAllReduce(at::Tensor& tensor, Scatter& scatter, ReduceOp op) const {
  RunScatter(scatter, op);
  backend_->AllGather(scatter.out, scatter.in);
  bytes_sent_ += scatter.out.nbytes() * (size() - 1);
  if (scatter.in.data_ptr() == tensor.data_ptr()) return;
  tensor.view({-1}).copy_(scatter.in.narrow(0, 0, tensor.numel()));
}

void Communicator::AllReduce(at::Tensor tensor, ReduceOp op) const {
  if (size() == 1) return;
  Run("all-reduce", [&] {
    Scatter scatter = NewAllReduce(tensor);
    RunAllReduce(tensor, scatter, op);
  });
}

// The bodies let go of their tensors: when a collective is done nobody but its caller holds them.
PendingCollective Communicator::Post(const char* op, std::function<void()> body,
                                     std::vector<at::Tensor> held) const {
  if (backend_->rehearses()) {
    Guarded(op, body);
    return PendingCollective({}, op, name_, std::move(held));
  }
  if (!worker_) worker_ = std::make_unique<Worker>();
  auto guarded = [this, op, body = std::move(body), state = at::ThreadLocalState()] {
    at::ThreadLocalStateGuard guard(state);
    Guarded(op, body);
    GiveSign();
  };
  return PendingCollective(worker_->Post(std::move(guarded)), op, name_, std::move(held));
}

PendingCollective Communicator::AllReduceAsync(at::Tensor tensor, ReduceOp op) const {
  if (size() == 1) return PendingCollective();
  at::NoGradGuard no_grad;
  Scatter scatter = NewAllReduce(tensor);
  std::vector<at::Tensor> held = {scatter.in, scatter.pieces, scatter.out};
  return Post(
      "all-reduce",
      [this, tensor, scatter = std::move(scatter), op]() mutable {
        RunAllReduce(tensor, scatter, op);
        tensor.reset();
        scatter = {};
      },
      std::move(held));
}

void Communicator::AllReduceInBlocks(at::Tensor tensor, int block) const {
  TORCH_CHECK(block >= 1 && size() % block == 0, "blocks of ", block, " ranks do not divide ",
              size());
  if (block == size()) return AllReduce(std::move(tensor));
  if (block == 1) return;
  Run("all-reduce in blocks", [&] {
    TORCH_CHECK(tensor.is_contiguous(), "all-reduce needs a contiguous tensor");
    const int first = rank_ / block * block;
    const at::Tensor stacked = at::empty({block, tensor.numel()}, tensor.options());
    std::vector<Transfer> sends, receives;
    for (int i = 0; i < block; ++i) {
      if (first + i == rank_) {
        stacked[i].copy_(tensor.view({-1}));
        continue;
      }
      sends.push_back({tensor, first + i});
      receives.push_back({stacked[i], first + i});
    }
    backend_->Exchange(sends, receives);
    bytes_sent_ += tensor.nbytes() * (block - 1);
    at::Tensor flat = tensor.view({-1});
    ReduceStacked(stacked, ReduceOp::kSum, flat);
  });
}

at::Tensor Communicator::AllGatherNow(const at::Tensor& in) const {
  TORCH_CHECK(in.is_contiguous(), "all-gather needs a contiguous tensor");
  std::vector<int64_t> shape = in.sizes().vec();
  shape.insert(shape.begin(), size());
  at::Tensor out = at::empty(shape, in.options());
  backend_->AllGather(in, out);
  bytes_sent_ += in.nbytes() * (size() - 1);
  return out;
}

at::Tensor Communicator::AllGather(const at::Tensor& in) const {
  if (size() == 1) return in.unsqueeze(0);
  at::Tensor out;
  Run("all-gather", [&] { out = AllGatherNow(in); });
  return out;
}

PendingTensor Communicator::AllGatherAsync(const at::Tensor& in) const {
  auto out = std::make_shared<at::Tensor>();
  if (size() == 1) {
    *out = in.unsqueeze(0);
    return PendingTensor(std::move(out), {});
  }
  return PendingTensor(out, Post("all-gather", [this, in = in, out]() mutable {
                         *out = AllGatherNow(in);
                         in.reset();
                       }));
}

PendingCollective Communicator::AllGatherIntoAsync(at::Tensor in, at::Tensor out) const {
  TORCH_CHECK(in.is_contiguous() && out.is_contiguous() && out.numel() == in.numel() * size(),
              "all-gather needs contiguous tensors, the output ", size(), " times the input");
  if (size() == 1) {
    out.view({-1}).copy_(in.view({-1}));
    return PendingCollective();
  }
  return Post("all-gather", [this, in = std::move(in), out = std::move(out)]() mutable {
    backend_->AllGather(in, out);
    bytes_sent_ += in.nbytes() * (size() - 1);
    in.reset();
    out.reset();
  });
}

PendingCollective Communicator::AllGatherInPlaceAsync(at::Tensor flat) const {
  if (size() == 1) return PendingCollective();
  return Post("all-gather", [this, flat = std::move(flat)]() mutable {
    TORCH_CHECK(flat.is_contiguous() && flat.numel() % size() == 0,
                "all-gather in place needs a contiguous tensor whose elements divide by ", size());
    const int64_t n = flat.numel() / size();
    // A copy: a transport may write the output before it has read its input.
    const at::Tensor mine = flat.view({-1}).narrow(0, rank_ * n, n).clone();
    backend_->AllGather(mine, flat);
    bytes_sent_ += mine.nbytes() * (size() - 1);
    flat.reset();
  });
}

at::Tensor Communicator::ReduceScatter(const at::Tensor& in, ReduceOp op) const {
  if (size() == 1) return in;
  at::Tensor out;
  Run("reduce-scatter", [&] {
    Scatter scatter = NewScatter(in);
    RunScatter(scatter, op);
    out = scatter.out;
  });
  return out;
}

PendingTensor Communicator::ReduceScatterAsync(const at::Tensor& in, ReduceOp op) const {
  if (size() == 1) return PendingTensor(std::make_shared<at::Tensor>(in), {});
  Scatter scatter = NewScatter(in);
  auto out = std::make_shared<at::Tensor>(scatter.out);
  std::vector<at::Tensor> held = {in, scatter.pieces};
  return PendingTensor(std::move(out), Post(
                                           "reduce-scatter",
                                           [this, scatter = std::move(scatter), op]() mutable {
                                             RunScatter(scatter, op);
                                             scatter = {};
                                           },
                                           std::move(held)));
}

at::Tensor Communicator::AllToAll(const at::Tensor& in) const {
  if (size() == 1) return in;
  at::Tensor out;
  Run("all-to-all", [&] {
    TORCH_CHECK(in.is_contiguous() && in.dim() > 0 && in.size(0) % size() == 0,
                "all-to-all needs a contiguous tensor whose dim 0 divides by ", size());
    out = at::empty_like(in);
    backend_->AllToAll(in, out);
    bytes_sent_ += in.nbytes() / size() * (size() - 1);
  });
  return out;
}

void Communicator::Broadcast(at::Tensor tensor, int root) const {
  if (size() == 1) return;
  Run("broadcast", [&] {
    TORCH_CHECK(tensor.is_contiguous(), "broadcast needs a contiguous tensor");
    backend_->Broadcast(tensor, root);
    if (rank_ == root) bytes_sent_ += tensor.nbytes() * (size() - 1);
  });
}

void Communicator::ExchangeNow(std::vector<Transfer>& sends,
                               std::vector<Transfer>& receives) const {
  TORCH_CHECK(size() > 1, "exchange in a group of one: there is no peer");
  for (const Transfer& t : sends) bytes_sent_ += t.tensor.nbytes();
  backend_->Exchange(sends, receives);
}

void Communicator::Exchange(std::vector<Transfer> sends, std::vector<Transfer> receives) const {
  if (sends.empty() && receives.empty()) return;
  Run("exchange", [&] { ExchangeNow(sends, receives); });
}

PendingCollective Communicator::ExchangeAsync(std::vector<Transfer> sends,
                                              std::vector<Transfer> receives) const {
  if (sends.empty() && receives.empty()) return PendingCollective();
  return Post("exchange",
              [this, sends = std::move(sends), receives = std::move(receives)]() mutable {
                ExchangeNow(sends, receives);
                sends.clear();
                receives.clear();
              });
}

void Communicator::Barrier() const {
  if (size() == 1) return;
  Run("barrier", [&] { backend_->Barrier(); });
}

}  // namespace lathe
