#include "lathe/layers/memory_meter.h"

#include <sys/resource.h>

#include <atomic>
#include <mutex>

#include "c10/core/Allocator.h"
#include "c10/core/CPUAllocator.h"

namespace lathe {
namespace {

std::atomic<int64_t> current{0};
std::atomic<int64_t> peak{0};

void Count(int64_t bytes) {
  const int64_t now = current.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  int64_t seen = peak.load(std::memory_order_relaxed);
  while (now > seen && !peak.compare_exchange_weak(seen, now, std::memory_order_relaxed)) {
  }
}

// A block remembers its size and the inner allocator's own handle.
struct Block {
  c10::DataPtr inner;
  int64_t bytes;
};

void Free(void* context) {
  Block* block = static_cast<Block*>(context);
  Count(-block->bytes);
  delete block;
}

class CountingAllocator : public c10::Allocator {
 public:
  explicit CountingAllocator(c10::Allocator* inner) : inner_(inner) {}

  c10::DataPtr allocate(size_t bytes) override {
    c10::DataPtr inner = inner_->allocate(bytes);
    void* data = inner.get();
    if (data == nullptr) return inner;
    Count(static_cast<int64_t>(bytes));
    return {data, new Block{std::move(inner), static_cast<int64_t>(bytes)}, &Free, c10::kCPU};
  }

  void copy_data(void* destination, const void* source, std::size_t count) const override {
    default_copy_data(destination, source, count);
  }

 private:
  c10::Allocator* inner_;
};

}  // namespace

void MemoryMeter::Install() {
  static std::once_flag once;
  std::call_once(once, [] {
    static CountingAllocator allocator(c10::GetCPUAllocator());
    // Above the default allocator's priority, so that a later library cannot silently take the
    // meter away.
    c10::SetCPUAllocator(&allocator, /*priority=*/1);
  });
}

int64_t MemoryMeter::current_bytes() { return current; }
int64_t MemoryMeter::peak_bytes() { return peak; }
void MemoryMeter::ResetPeak() { peak = current.load(); }

int64_t PeakResidentBytes() {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * int64_t{1024};  // Linux reports KiB
}

}  // namespace lathe
