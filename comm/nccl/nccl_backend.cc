#include "lathe/comm/nccl/nccl_backend.h"

#include <chrono>
#include <cstdlib>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "ATen/Context.h"
#include "ATen/ops/empty_like.h"
#include "c10/cuda/CUDAFunctions.h"
#include "c10/cuda/CUDAGuard.h"
#include "lathe/comm/backend.h"
#include "torch/csrc/distributed/c10d/PrefixStore.hpp"
#include "torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp"

namespace lathe {
namespace {

// Failures become exceptions in the thread that waits; c10d's own watchdog would end the process by
// a signal. A value that the user set stays.
void LetWaitThrow() {
  static const int once = setenv("TORCH_NCCL_BLOCKING_WAIT", "1", /*overwrite=*/0) +
                          setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0", /*overwrite=*/0);
  (void)once;
}

// c10d looks every millisecond whether a collective has ended, longer than most of them take.
constexpr std::chrono::milliseconds kLookingTime(20);

void Finish(c10d::Work& work) {
  const auto end = std::chrono::steady_clock::now() + kLookingTime;
  while (!work.isCompleted() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  work.wait();  // which keeps the timeout, and throws
}

class NcclBackend : public Backend {
 public:
  NcclBackend(c10::intrusive_ptr<c10d::ProcessGroupNCCL> group, c10::Device device)
      : group_(std::move(group)), device_(device) {}
  ~NcclBackend() override { group_->shutdown(); }

  void AllGather(const at::Tensor& in, at::Tensor& out) override {
    const c10::cuda::CUDAGuard guard(device_);
    at::Tensor input = ToDevice(in), output = LikeOnDevice(out);
    Finish(*group_->_allgather_base(output, input));
    CopyBack(output, out);
  }

  void AllToAll(const at::Tensor& in, at::Tensor& out) override {
    const c10::cuda::CUDAGuard guard(device_);
    at::Tensor input = ToDevice(in), output = LikeOnDevice(out);
    std::vector<int64_t> equal_split;
    Finish(*group_->alltoall_base(output, input, equal_split, equal_split));
    CopyBack(output, out);
  }

  void Broadcast(at::Tensor& tensor, int root) override {
    const c10::cuda::CUDAGuard guard(device_);
    std::vector<at::Tensor> tensors{ToDevice(tensor)};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    Finish(*group_->broadcast(tensors, options));
    CopyBack(tensors[0], tensor);
  }

  void Exchange(std::vector<Transfer>& sends, std::vector<Transfer>& receives) override {
    const c10::cuda::CUDAGuard guard(device_);
    // Kept until the end: `wait` is for all of them.
    std::vector<std::vector<at::Tensor>> sent, received;
    for (const Transfer& t : sends) sent.push_back({ToDevice(t.tensor)});
    for (const Transfer& t : receives) received.push_back({LikeOnDevice(t.tensor)});
    group_->startCoalescing();
    for (size_t i = 0; i < sends.size(); ++i) group_->send(sent[i], sends[i].peer, /*tag=*/0);
    for (size_t i = 0; i < receives.size(); ++i) {
      group_->recv(received[i], receives[i].peer, /*tag=*/0);
    }
    Finish(*group_->endCoalescing());
    for (size_t i = 0; i < receives.size(); ++i) CopyBack(received[i][0], receives[i].tensor);
  }

  void Barrier() override {
    const c10::cuda::CUDAGuard guard(device_);
    c10d::BarrierOptions options;
    options.device_ids = {device_.index()};
    Finish(*group_->barrier(options));
  }

 private:
  // Data movement is typeless: as bytes, every dtype takes the same path.
  static at::Tensor Bytes(const at::Tensor& tensor) { return tensor.view({-1}).view(at::kByte); }

  // `tensor`'s bytes, itself where it lies on the device.
  at::Tensor ToDevice(const at::Tensor& tensor) const { return Bytes(tensor).to(device_); }
  at::Tensor LikeOnDevice(const at::Tensor& tensor) const {
    const at::Tensor bytes = Bytes(tensor);
    return tensor.device() == device_ ? bytes : at::empty_like(bytes, device_);
  }
  static void CopyBack(const at::Tensor& moved, const at::Tensor& tensor) {
    if (moved.device() != tensor.device()) Bytes(tensor).copy_(moved);
  }

  c10::intrusive_ptr<c10d::ProcessGroupNCCL> group_;
  c10::Device device_;
};

}  // namespace

int NumGpus() { return c10::cuda::device_count(); }

void UseGpu(int index) {
  // Without it cuBLAS may choose its algorithm by what else runs.
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  at::globalContext().setDeterministicAlgorithms(/*b=*/true, /*warn_only=*/false);
  // New tensors are not to be filled: nothing here reads what it has not written.
  at::globalContext().setDeterministicFillUninitializedMemory(false);
  // cuDNN's attention comes before LibTorch's own on some GPUs, and is not deterministic.
  at::globalContext().setSDPUseCuDNN(false);
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(index));
}

BackendFactory ConnectNccl(RendezvousStore store, std::chrono::milliseconds timeout,
                           c10::Device device) {
  LetWaitThrow();
  return [store = std::move(store), timeout, device](const std::string& group,
                                                     const std::vector<int>& ranks, int rank) {
    const c10::cuda::CUDAGuard guard(device);
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = timeout;
    auto prefixed = c10::make_intrusive<c10d::PrefixStore>(group, store);
    return std::make_unique<NcclBackend>(
        c10::make_intrusive<c10d::ProcessGroupNCCL>(prefixed, rank, static_cast<int>(ranks.size()),
                                                    options),
        device);
  };
}

}  // namespace lathe
