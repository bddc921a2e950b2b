#include "lathe/layers/memory_meter.h"

#include <sys/resource.h>

#include <atomic>
#include <mutex>

#include "c10/core/Allocator.h"
#include "c10/core/CPUAllocator.h"
#include "c10/core/impl/alloc_cpu.h"

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

// Before each block its size; as much as keeps LibTorch's alignment.
constexpr size_t kHeaderBytes = 64;

void Free(void* data) {
  if (data == nullptr) return;
  char* const start = static_cast<char*>(data) - kHeaderBytes;
  Count(-*reinterpret_cast<const int64_t*>(start));
  c10::free_cpu(start);
}

// The data is its own context, as LibTorch's callers of raw_allocate want it.
class CountingAllocator : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &Free, c10::kCPU};
    char* const start = static_cast<char*>(c10::alloc_cpu(bytes + kHeaderBytes));
    *reinterpret_cast<int64_t*>(start) = static_cast<int64_t>(bytes);
    Count(static_cast<int64_t>(bytes));
    void* const data = start + kHeaderBytes;
    return {data, data, &Free, c10::kCPU};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &Free; }

  void copy_data(void* destination, const void* source, std::size_t count) const override {
    default_copy_data(destination, source, count);
  }
};

}  // namespace

void MemoryMeter::Install() {
  static std::once_flag once;
  std::call_once(once, [] {
    static CountingAllocator allocator;
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
