#include "lathe/zero/flat_weights.h"

#include <utility>

#include "ATen/ops/empty.h"
#include "ATen/ops/zeros.h"
#include "c10/core/Storage.h"
#include "c10/util/Exception.h"

namespace lathe {

FlatWeights::FlatWeights(int64_t elements, at::TensorOptions options, const Communicator& dp)
    : dp_(dp) {
  TORCH_CHECK(elements % dp.size() == 0, elements, " elements do not divide by ", dp.size());
  own_ = at::zeros({elements / dp.size()}, options);
  c10::Storage storage(c10::Storage::use_byte_size_t(), elements * own_.element_size(),
                       c10::DataPtr(nullptr, own_.device()), /*allocator=*/nullptr,
                       /*resizable=*/false);
  whole_ = at::empty({0}, options).set_(std::move(storage), 0, {elements}, {1});
}

void FlatWeights::StartGather() {
  if (std::exchange(gathered_, true)) return;
  const at::Tensor memory = at::empty({elements()}, own_.options());
  // The views see the new memory, since they share the storage. The one that lent it is dropped.
  whole_.storage().set_data_ptr(
      memory.storage().set_data_ptr(c10::DataPtr(nullptr, own_.device())));
  pending_ = dp_.AllGatherIntoAsync(own_, whole_);
}

void FlatWeights::Release() {
  if (!std::exchange(gathered_, false)) return;
  pending_.Wait();
  pending_ = {};
  whole_.storage().set_data_ptr(c10::DataPtr(nullptr, own_.device()));
}

}  // namespace lathe
