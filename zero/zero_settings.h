// What a run asks of the data-parallel axis, by DeepSpeed's names and with its defaults: plain
// numbers, resolved, without "auto".
//
//   ZeroSettings zero{.stage = 2, .reduce_bucket_size = 200'000'000};
//
// Sizes are elements, not bytes, unless the name says otherwise. Plain data: no thread rule.
//
// Source: DeepSpeed 0.19.8 runtime/zero/config.py, zero/offload_config.py, precision_config.py,
// swap_tensor/constants.py.
#ifndef LATHE_ZERO_ZERO_SETTINGS_H_
#define LATHE_ZERO_ZERO_SETTINGS_H_

#include <cstdint>
#include <limits>
#include <string>

namespace lathe {

enum class OffloadDevice { kNone, kCpu, kNvme };

struct OffloadSettings {
  OffloadDevice device = OffloadDevice::kNone;
  std::string nvme_path;  // a folder, with kNvme
  bool pin_memory = true;
  int64_t buffer_count = 0;  // buffers between disk and memory, with kNvme
  int64_t buffer_size = 0;   // of each, parameters only
  int64_t max_in_cpu = 0;    // parameters kept in memory with kNvme, parameters only
};

// How disk offload reads and writes.
struct DiskSettings {
  int64_t block_size_bytes = 1 << 20;
  int64_t queue_depth = 8;
};

struct ZeroSettings {
  int stage = 0;  // 0 to 3
  int64_t reduce_bucket_size = 500'000'000;
  int64_t allgather_bucket_size = 500'000'000;
  bool overlap_comm = false;
  bool contiguous_gradients = true;
  int64_t sub_group_size = 1'000'000'000;  // stepped at once with offload to disk
  // Stage 3.
  int64_t prefetch_bucket_size = 50'000'000;
  int64_t param_persistence_threshold = 100'000;
  int64_t model_persistence_threshold = std::numeric_limits<int64_t>::max();
  int64_t max_live_parameters = 1'000'000'000;
  OffloadSettings offload_optimizer{.buffer_count = 4};
  OffloadSettings offload_param{
      .buffer_count = 5, .buffer_size = 100'000'000, .max_in_cpu = 1'000'000'000};
  DiskSettings disk;
};

// fp16's loss scale.
struct LossScaleSettings {
  bool enabled = false;          // training in fp16 at all
  double loss_scale = 0;         // 0: dynamic, else this one throughout
  int initial_scale_power = 16;  // a dynamic scale starts at 2 to this power
  int64_t loss_scale_window = 1000;
  int64_t hysteresis = 2;
  bool consecutive_hysteresis = false;
  int64_t min_loss_scale = 1;
};

}  // namespace lathe

#endif  // LATHE_ZERO_ZERO_SETTINGS_H_
