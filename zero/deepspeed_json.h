// A DeepSpeed configuration file as Hugging Face's Trainer takes it (--deepspeed FILE), read
// strictly.
//
//   ABSL_ASSIGN_OR_RETURN(const DeepSpeedJson json, ReadDeepSpeedJson("ds_config_zero2.json"));
//   json.zero_optimization.stage.value;                      // 2
//   json.optimizer->lr.is_auto;                              // true: --learning_rate
//   for (const std::string& note : json.notes) LOG(INFO) << note;
//
// Comments (// and /* */) and integers spelled 2e8 are understood; null is "as if not given". Every
// key is honoured (a field below), ignored with a line in `notes` since the training's result does
// not depend on it, or refused by name with the reason: deepspeed_keys.h has them all. A value that
// asks for nothing is accepted wherever it stands, so that "amp": {"enabled": false} needs no
// editing.
//
// What "auto" means, and how the file and the flags go together: launchers/deepspeed_settings.h.
//
// Pure functions: call from any thread.
#ifndef LATHE_ZERO_DEEPSPEED_JSON_H_
#define LATHE_ZERO_DEEPSPEED_JSON_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace lathe {

// What a key has: a value, "auto", or neither (it is absent).
template <typename T>
struct DeepSpeedValue {
  std::optional<T> value;
  bool is_auto = false;

  bool is_absent() const { return !is_auto && !value.has_value(); }
  T value_or(T otherwise) const { return value.value_or(std::move(otherwise)); }
};

struct DeepSpeedFp16 {
  DeepSpeedValue<bool> enabled;
  DeepSpeedValue<double> loss_scale;
  DeepSpeedValue<int64_t> initial_scale_power;
  DeepSpeedValue<int64_t> loss_scale_window;
  DeepSpeedValue<int64_t> hysteresis;
  DeepSpeedValue<bool> consecutive_hysteresis;
  DeepSpeedValue<int64_t> min_loss_scale;
};

// Adam and AdamW, which DeepSpeed takes for the same unless adam_w_mode is false, or Lion.
struct DeepSpeedOptimizer {
  enum class Rule { kAdamW, kAdam, kLion };

  std::string type;  // as written
  Rule rule = Rule::kAdamW;
  DeepSpeedValue<double> lr;
  DeepSpeedValue<std::pair<double, double>> betas;
  DeepSpeedValue<double> eps;
  DeepSpeedValue<double> weight_decay;
};

struct DeepSpeedScheduler {
  std::string type;  // WarmupLR, WarmupDecayLR or WarmupCosineLR
  DeepSpeedValue<double> warmup_min_lr;
  DeepSpeedValue<double> warmup_max_lr;
  DeepSpeedValue<int64_t> warmup_num_steps;
  DeepSpeedValue<int64_t> total_num_steps;
  DeepSpeedValue<std::string> warmup_type;
  DeepSpeedValue<double> warmup_min_ratio;
  DeepSpeedValue<double> cos_min_ratio;
};

struct DeepSpeedOffload {
  DeepSpeedValue<std::string> device;  // none, cpu, nvme
  DeepSpeedValue<std::string> nvme_path;
  DeepSpeedValue<bool> pin_memory;
  DeepSpeedValue<int64_t> buffer_count;
  DeepSpeedValue<int64_t> buffer_size;  // of parameters only
  DeepSpeedValue<int64_t> max_in_cpu;   // of parameters only
};

struct DeepSpeedZero {
  DeepSpeedValue<int64_t> stage;
  DeepSpeedValue<int64_t> reduce_bucket_size;
  DeepSpeedValue<int64_t> allgather_bucket_size;
  DeepSpeedValue<bool> overlap_comm;
  DeepSpeedValue<bool> contiguous_gradients;
  DeepSpeedValue<int64_t> sub_group_size;
  DeepSpeedValue<int64_t> stage3_prefetch_bucket_size;
  DeepSpeedValue<int64_t> stage3_param_persistence_threshold;
  DeepSpeedValue<int64_t> stage3_model_persistence_threshold;
  DeepSpeedValue<int64_t> stage3_max_live_parameters;
  DeepSpeedOffload offload_optimizer;
  DeepSpeedOffload offload_param;
};

struct DeepSpeedAio {
  DeepSpeedValue<int64_t> block_size;  // bytes
  DeepSpeedValue<int64_t> queue_depth;
};

struct DeepSpeedJson {
  std::string source;  // what messages call the file
  DeepSpeedValue<int64_t> train_batch_size;
  DeepSpeedValue<int64_t> train_micro_batch_size_per_gpu;
  DeepSpeedValue<int64_t> gradient_accumulation_steps;
  DeepSpeedValue<double> gradient_clipping;
  std::optional<DeepSpeedOptimizer> optimizer;
  std::optional<DeepSpeedScheduler> scheduler;
  DeepSpeedFp16 fp16;
  DeepSpeedValue<bool> bf16_enabled;
  DeepSpeedValue<std::string> grad_accum_dtype;         // fp32, bf16, fp16
  DeepSpeedValue<std::string> communication_data_type;  // the same
  DeepSpeedValue<int64_t> autotp_size;                  // 0 and 1: no tensor parallelism
  DeepSpeedZero zero_optimization;
  DeepSpeedAio aio;
  // One line for each key that asks for something that is ignored, with the reason.
  std::vector<std::string> notes;
};

// `source` is what messages call the text.
// Errors: InvalidArgument, one line that begins with the source: the place of what is no JSON; or
// all unknown keys (with suggestions), values of a wrong type or out of range, and keys that are
// refused, each with its path; or what does not go together (offload without its stage or folder, a
// schedule's parameter that it does not have).
absl::StatusOr<DeepSpeedJson> ParseDeepSpeedJson(std::string_view text, std::string_view source);

// The same from a file. Errors: also ReadFile's.
absl::StatusOr<DeepSpeedJson> ReadDeepSpeedJson(const std::string& path);

}  // namespace lathe

#endif  // LATHE_ZERO_DEEPSPEED_JSON_H_
