// MemoryMeter: bytes of CPU tensors alive now and at most, counted at the allocator, so that memory
// claims are exact and repeatable where resident memory is not.
//
//   MemoryMeter::Install();               // once, before tensors are made
//   MemoryMeter::ResetPeak();
//   ... a step ...
//   LOG(INFO) << MemoryMeter::peak_bytes();
//
// Process-wide (ranks that are threads share it). Thread-safe.
#ifndef LATHE_LAYERS_MEMORY_METER_H_
#define LATHE_LAYERS_MEMORY_METER_H_

#include <cstdint>

namespace lathe {

class MemoryMeter {
 public:
  // Puts a counting allocator in the place of LibTorch's CPU allocator. Later calls do nothing.
  // Tensors made earlier are not counted.
  static void Install();

  static int64_t current_bytes();
  // Since Install or the last ResetPeak.
  static int64_t peak_bytes();
  static void ResetPeak();
};

// Largest resident set of this process so far, in bytes (getrusage): what a person sees in top.
int64_t PeakResidentBytes();

}  // namespace lathe

#endif  // LATHE_LAYERS_MEMORY_METER_H_
