#include "lathe/datasets/token_store.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace lathe {

TokenStore::TokenStore(TokenStore&& other) noexcept { *this = std::move(other); }

TokenStore& TokenStore::operator=(TokenStore&& other) noexcept {
  ids_ = std::move(other.ids_);
  size_ = std::exchange(other.size_, 0);
  capacity_ = std::exchange(other.capacity_, 0);
  ends_ = std::exchange(other.ends_, {});
  return *this;
}

void TokenStore::AppendDocuments(absl::Span<const int32_t> ids, absl::Span<const int64_t> lengths) {
  const int64_t size = size_ + static_cast<int64_t>(ids.size());
  if (size > capacity_) {
    // realloc and not a vector: a big block grows by moving pages, so the old and the new one are
    // never both in memory.
    const int64_t capacity = std::max<int64_t>({size, capacity_ + capacity_ / 2, 1024});
    void* grown = std::realloc(ids_.get(), static_cast<size_t>(capacity) * sizeof(int32_t));
    if (grown == nullptr) throw std::bad_alloc();
    (void)ids_.release();
    ids_.reset(static_cast<int32_t*>(grown));
    capacity_ = capacity;
  }
  if (!ids.empty()) std::memcpy(ids_.get() + size_, ids.data(), ids.size() * sizeof(int32_t));
  for (const int64_t length : lengths) {
    size_ += length;
    ends_.push_back(size_);
  }
}

}  // namespace lathe
