#include "lathe/zero/flat_weights.h"

#include <utility>

#include "ATen/ops/empty.h"
#include "ATen/ops/zeros.h"
#include "c10/core/Storage.h"
#include "c10/core/TensorImpl.h"
#include "c10/util/Exception.h"

namespace lathe {

FlatWeights::FlatWeights(int64_t elements, at::TensorOptions options, const Communicator& dp,
                         const Place& own_place)
    : dp_(dp) {
  TORCH_CHECK(elements % dp.size() == 0, elements, " elements do not divide by ", dp.size());
  const int64_t own_elements = elements / dp.size();
  const at::ScalarType dtype = c10::typeMetaToScalarType(options.dtype());
  const auto element_size = static_cast<int64_t>(c10::elementSize(dtype));
  if (own_place.disk != nullptr) {
    own_on_disk_ = {own_place.disk, own_place.disk->Reserve(own_elements * element_size)};
    own_ = own_place.disk->Map(own_on_disk_.region, own_elements, dtype);
  } else {
    own_ =
        at::zeros({own_elements}, options.device(own_place.device).pinned_memory(own_place.pinned));
  }
  c10::Storage storage(c10::Storage::use_byte_size_t(), elements * element_size,
                       c10::DataPtr(nullptr, options.device()), /*allocator=*/nullptr,
                       /*resizable=*/false);
  const at::Tensor like = at::empty({0}, options);
  whole_ =
      at::detail::make_tensor<c10::TensorImpl>(std::move(storage), like.key_set(), like.dtype());
  whole_.unsafeGetTensorImpl()->set_sizes_contiguous(elements);
}

void FlatWeights::SetMemory(const at::Tensor& memory) {
  // The views see it, since they share the storage, which keeps the tensor that owns it.
  auto* const owner = new at::Tensor(memory);
  whole_.storage().set_data_ptr(c10::DataPtr(
      memory.is_meta() ? nullptr : memory.data_ptr(), owner,
      [](void* context) { delete static_cast<at::Tensor*>(context); }, memory.device()));
}

void FlatWeights::StartGather() {
  if (std::exchange(gathered_, true)) return;
  if (own_on_disk_.disk != nullptr) {
    read_ = DiskStore::Buffer(own_.numel(), own_.scalar_type());
    reading_ = own_on_disk_.disk->Read(own_on_disk_.region, 0, read_);
    return;
  }
  SetMemory(at::empty({elements()}, whole_.options()));
  pending_ = dp_.AllGatherIntoAsync(own_.to(whole_.device()), whole_);
}

void FlatWeights::FinishGather() {
  if (read_.defined()) {
    reading_.Wait();
    const at::Tensor own = std::exchange(read_, at::Tensor()).to(whole_.device());
    if (dp_.size() == 1) {
      SetMemory(own);
    } else {
      SetMemory(at::empty({elements()}, whole_.options()));
      pending_ = dp_.AllGatherIntoAsync(own, whole_);
    }
  }
  pending_.Wait();
}

void FlatWeights::Release() {
  if (!std::exchange(gathered_, false)) return;
  reading_.Wait();
  read_.reset();
  pending_.Wait();
  pending_ = {};
  whole_.storage().set_data_ptr(c10::DataPtr(nullptr, whole_.device()));
}

}  // namespace lathe
