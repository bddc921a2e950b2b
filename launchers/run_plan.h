// RunPlan: what a run does, once its flags, its DeepSpeed file and its model are read together and
// found to fit, before a process is started, a peer called or memory taken.
//
//   ABSL_ASSIGN_OR_RETURN(const RunPlan run, MakeRunPlan(flags, {.seq_len = 1024},
//   /*world_size=*/4)); run.config ...   // instead of the flags, from here on
//
// Pure functions of files and flags: call from any thread.
#ifndef LATHE_LAUNCHERS_RUN_PLAN_H_
#define LATHE_LAUNCHERS_RUN_PLAN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lathe/launchers/run_config.pb.h"
#include "lathe/launchers/task_builders.h"
#include "lathe/models/model_config.h"
#include "lathe/pipeline_parallel/actions.h"
#include "lathe/pipeline_parallel/partition.h"
#include "lathe/trainer/lr_schedule.h"
#include "lathe/trainer/training_plan.h"
#include "lathe/zero/deepspeed_json.h"
#include "lathe/zero/zero_optimizer.h"
#include "lathe/zero/zero_settings.h"
#include "lathe/zero/zero_units.h"

namespace lathe {

// How a pipeline cuts the model and in which order it runs.
struct PipelinePlan {
  LayerPartition partition;
  ScheduleKind schedule = ScheduleKind::k1F1B;
};

struct RunPlan {
  RunConfig config;  // the flags, with the DeepSpeed file's values where those hold
  TaskShape task;
  ModelConfig model;
  PipelinePlan pipeline;
  ZeroSettings zero;  // offload and its disk
  ZeroOptions optimizer;
  UnitOptions units;             // of ZeRO stage 3
  LossScaleSettings loss_scale;  // of fp16
  std::optional<DeepSpeedJson> deepspeed;
  std::vector<std::string> messages;  // for the log: what the DeepSpeed file changes
};

// `world_size`: processes in all. Errors: what CheckTrainingArguments, ReadDeepSpeedJson,
// ApplyDeepSpeed, BuildModelConfig, CheckLayout and CheckSchedule say; what excludes each other.
absl::StatusOr<RunPlan> MakeRunPlan(const RunConfig& flags, const TaskShape& task, int world_size);

// Refuses what this machine's memory cannot hold: what a rank keeps through an update, in fp32,
// whatever else: weights, gradients, the states of the rule that has least. The replicas of other
// ranks on this machine are not counted.
absl::Status CheckMachineMemory(const RunPlan& run, int world_size);

// The DeepSpeed file's schedule, or --lr_scheduler_type. Errors: DeepSpeedSchedule's and
// LrSchedule::Create's.
absl::StatusOr<LrSchedule> BuildSchedule(const RunPlan& run, const TrainingPlan& plan);

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_RUN_PLAN_H_
