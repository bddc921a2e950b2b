// How a DeepSpeed configuration and the flags go together: what holds, by Hugging Face's rules.
//
//   const std::string& file = config.training().deepspeed();
//   ABSL_ASSIGN_OR_RETURN(const DeepSpeedJson json, ReadDeepSpeedJson(file));
//   ABSL_ASSIGN_OR_RETURN(const DeepSpeedSettings settings,
//                         ApplyDeepSpeed(json, config, {.data_parallel_size = 2,
//                                                       .hidden_size = model.hidden_size}));
//   for (const std::string& message : settings.messages) LOG(INFO) << message;
//   ...                  // settings.config instead of config; data, TrainingPlan
//   ABSL_ASSIGN_OR_RETURN(const std::optional<LrScheduleOptions> schedule,
//                         DeepSpeedSchedule(json, settings.config, plan.max_steps,
//                                           plan.warmup_steps));
//
// Which value holds of a key that has a flag:
//
//   "auto"    the flag's, default included
//   a value   that one. It must not contradict a flag that the user gave; all contradictions are
//             one error. (Hugging Face also compares with defaults of flags that were not given.)
//   absent    the flag's if the user gave it, else DeepSpeed's default. Where the two differ, a
//             message says so.
//
// A flag is given if it stands on the command line or in --config's file.
//
// Pure functions: call from any thread.
//
// Source: transformers 5.17 integrations/deepspeed.py, trainer_config_process and _finalize;
// DeepSpeed 0.19.8 runtime/config.py, _set_batch_related_parameters.
#ifndef LATHE_LAUNCHERS_DEEPSPEED_SETTINGS_H_
#define LATHE_LAUNCHERS_DEEPSPEED_SETTINGS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lathe/launchers/run_config.pb.h"
#include "lathe/trainer/lr_schedule.h"
#include "lathe/zero/deepspeed_json.h"
#include "lathe/zero/zero_settings.h"

namespace lathe {

struct DeepSpeedWorld {
  int data_parallel_size = 1;
  int64_t hidden_size = 0;  // of the model: what "auto" makes bucket sizes of
};

struct DeepSpeedSettings {
  RunConfig config;  // the flags with the values that hold
  ZeroSettings zero;
  LossScaleSettings loss_scale;
  // With an optimizer block weight decay touches every parameter, biases and norms too.
  bool all_parameters_decay = false;
  // For the log, one line each: what is ignored, what replaces which flag, where a default is
  // DeepSpeed's.
  std::vector<std::string> messages;
};

// Errors: InvalidArgument: all contradictions between the file and the flags, each with both
// values; a batch size that micro batches, accumulation and ranks do not make; fp16 with bf16; a
// value that this version does not have. The schedule's length is not known yet: DeepSpeedSchedule
// checks it.
absl::StatusOr<DeepSpeedSettings> ApplyDeepSpeed(const DeepSpeedJson& json, const RunConfig& flags,
                                                 const DeepSpeedWorld& world);

// The schedule that the file asks for, nullopt when it has none and --lr_scheduler_type decides.
// `config` is what ApplyDeepSpeed returned; the steps are the training plan's. Errors:
// InvalidArgument: a total_num_steps or warmup_num_steps that is not the run's.
absl::StatusOr<std::optional<LrScheduleOptions>> DeepSpeedSchedule(const DeepSpeedJson& json,
                                                                   const RunConfig& config,
                                                                   int64_t max_steps,
                                                                   int64_t warmup_steps);

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_DEEPSPEED_SETTINGS_H_
