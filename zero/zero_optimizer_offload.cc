// ZeroOptimizer's step where masters, states or weights are not in the device's memory: stretch by
// stretch, the next ones on their way in, the last ones on their way out.
#include <algorithm>
#include <future>
#include <utility>
#include <vector>

#include "ATen/core/grad_mode.h"
#include "ATen/ops/zeros.h"
#include "lathe/zero/zero_optimizer.h"
#include "lathe/zero/zero_optimizer_parts.h"

namespace lathe {
namespace {

at::Tensor Part(const at::Tensor& flat, const FlatRange& range) {
  return flat.narrow(0, range.begin, range.size());
}

// What moves between a stretch's buffers and where its tensors are.
struct Transfers {
  std::vector<PendingTransfer> pending;

  // The stretch of a tensor: a buffer that its part of the disk is read into, or a view.
  at::Tensor Read(const at::Tensor& tensor, const DiskTensor& on_disk, const FlatRange& range) {
    if (on_disk.disk == nullptr) return Part(tensor, range);
    const at::Tensor buffer = DiskStore::Buffer(range.size(), tensor.scalar_type());
    pending.push_back(
        on_disk.disk->Read(on_disk.region, range.begin * buffer.element_size(), buffer));
    return buffer;
  }

  void Write(const at::Tensor& buffer, const DiskTensor& on_disk, const FlatRange& range) {
    if (on_disk.disk == nullptr) return;  // it was changed in place
    pending.push_back(
        on_disk.disk->Write(on_disk.region, range.begin * buffer.element_size(), buffer));
  }

  void Wait() {
    for (const PendingTransfer& transfer : pending) transfer.Wait();
    pending.clear();
  }
};

}  // namespace

bool ZeroOptimizer::IsOffloaded() const {
  return states_device_ != context_.device() || options_.offload_states.disk != nullptr ||
         options_.offload_weights.disk != nullptr;
}

at::Tensor ZeroOptimizer::NewState(int64_t elements, at::ScalarType type,
                                   DiskTensor* on_disk) const {
  const StateOffload& offload = options_.offload_states;
  if (offload.disk == nullptr) {
    const bool pinned = states_device_ != context_.device() && offload.pin_memory;
    return at::zeros({elements},
                     at::TensorOptions(states_device_).dtype(type).pinned_memory(pinned));
  }
  const auto element_size = static_cast<int64_t>(c10::elementSize(type));
  *on_disk = {offload.disk, offload.disk->Reserve(elements * element_size)};
  return offload.disk->Map(on_disk->region, elements, type);
}

// One stretch on its way through memory.
struct ZeroOptimizer::Passage {
  Bucket* bucket = nullptr;
  Stretch stretch;
  std::future<at::Tensor> grads;  // on the states' device
  Transfers transfers;
};

void ZeroOptimizer::Enter(Passage& passage) const {
  Bucket& bucket = *passage.bucket;
  Stretch& stretch = passage.stretch;
  const at::Tensor grads = Part(bucket.own_grads, stretch.range);
  const auto policy = grads.device() == states_device_ ? std::launch::deferred : std::launch::async;
  passage.grads = std::async(policy, [grads, device = states_device_] {
    at::NoGradGuard no_grad;
    return grads.to(device);
  });
  stretch.masters = passage.transfers.Read(bucket.masters, bucket.masters_on_disk, stretch.range);
  for (size_t i = 0; i < bucket.states.size(); ++i) {
    if (bucket.rule->cuts() != UpdateRule::Cuts::kAnywhere) {
      stretch.states.push_back(bucket.states[i]);  // in memory, and all of it
      continue;
    }
    stretch.states.push_back(
        passage.transfers.Read(bucket.states[i], bucket.states_on_disk[i], stretch.range));
  }
}

void ZeroOptimizer::Leave(Passage& passage) const {
  Bucket& bucket = *passage.bucket;
  const Stretch& stretch = passage.stretch;
  passage.transfers.Write(stretch.masters, bucket.masters_on_disk, stretch.range);
  for (size_t i = 0; i < bucket.states.size(); ++i) {
    passage.transfers.Write(stretch.states[i], bucket.states_on_disk[i], stretch.range);
  }
  if (!bucket.has_masters()) return;
  if (bucket.flat == nullptr || bucket.flat->own_on_disk().disk == nullptr) {
    Part(bucket.own_weights, stretch.range).copy_(stretch.masters);
    return;
  }
  const at::Tensor rounded =
      DiskStore::Buffer(stretch.range.size(), bucket.own_weights.scalar_type());
  rounded.copy_(stretch.masters);
  passage.transfers.Write(rounded, bucket.flat->own_on_disk(), stretch.range);
}

void ZeroOptimizer::StepOffloaded(const UpdateStep& step) {
  std::vector<Passage> passages;
  // A multiple of what a disk can be read from, whatever the type.
  const int64_t elements = std::max<int64_t>(
      options_.offload_states.stretch_elements / DiskStore::kAlignment * DiskStore::kAlignment,
      DiskStore::kAlignment);
  for (Bucket& bucket : buckets_) {
    const bool cuts = bucket.rule->cuts() == UpdateRule::Cuts::kAnywhere;
    const int64_t most = cuts ? elements : bucket.own.size();
    for (int64_t begin = 0; begin < bucket.own.size(); begin += most) {
      Passage& passage = passages.emplace_back();
      passage.bucket = &bucket;
      passage.stretch.range = {begin, std::min(begin + most, bucket.own.size())};
    }
  }
  // Of the buffers one is stepped and one written; the others are read.
  const size_t num_buffers = std::max(options_.offload_states.num_buffers, 3);
  size_t entered = 0;
  for (size_t i = 0; i < passages.size(); ++i) {
    while (entered < passages.size() && entered < i + num_buffers - 1) {
      Enter(passages[entered++]);
    }
    Passage& passage = passages[i];
    passage.transfers.Wait();
    passage.stretch.grads = passage.grads.get();
    UpdateStretch(*passage.bucket, passage.stretch, step);
    Leave(passage);
    if (i == 0) continue;
    passages[i - 1].transfers.Wait();
    passages[i - 1] = Passage();  // lets its buffers go
  }
  if (!passages.empty()) passages.back().transfers.Wait();
}

}  // namespace lathe
