#include "lathe/layers/meta_meter.h"

#include <atomic>
#include <mutex>

#include "c10/core/Allocator.h"

namespace lathe {
namespace {

std::atomic<int64_t> current{0};
std::atomic<int64_t> peak{0};

void Count(int64_t bytes) {
  const int64_t now = current.fetch_add(bytes) + bytes;
  int64_t seen = peak.load();
  while (now > seen && !peak.compare_exchange_weak(seen, now)) {
  }
}

void Forget(void* context) {
  const auto* const bytes = static_cast<int64_t*>(context);
  Count(-*bytes);
  delete bytes;
}

// Gives no memory, but a context that knows how much it would have been.
class CountingMetaAllocator : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &Forget, c10::kMeta};
    Count(static_cast<int64_t>(bytes));
    return {nullptr, new int64_t(static_cast<int64_t>(bytes)), &Forget, c10::kMeta};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void*, const void*, std::size_t) const override {}
};

}  // namespace

void MetaMeter::Install() {
  static std::once_flag once;
  std::call_once(once, [] {
    static CountingMetaAllocator allocator;
    c10::SetAllocator(c10::kMeta, &allocator, /*priority=*/1);
  });
}

int64_t MetaMeter::current_bytes() { return current; }
int64_t MetaMeter::peak_bytes() { return peak; }
void MetaMeter::ResetPeak() { peak = current.load(); }

}  // namespace lathe
