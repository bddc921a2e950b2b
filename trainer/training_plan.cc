#include "lathe/trainer/training_plan.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "lathe/trainer/lr_schedule.h"
#include "lathe/trainer/training_arguments.h"

namespace lathe {
int64_t TrainingPlan::WindowSize(int64_t update_in_epoch) const {
  return std::min(accumulation, batches_per_epoch - update_in_epoch * accumulation);
}

absl::StatusOr<TrainingPlan> MakeTrainingPlan(const TrainingArguments& a,
                                              int64_t batches_per_epoch) {
  if (batches_per_epoch < 1) {
    return absl::InvalidArgumentError(
        "the training data make no batch; lower --block_size or --per_device_train_batch_size, or "
        "leave out "
        "--dataloader_drop_last");
  }
  TrainingPlan plan;
  plan.batches_per_epoch = batches_per_epoch;
  plan.accumulation = a.gradient_accumulation_steps();
  plan.updates_per_epoch = (batches_per_epoch + plan.accumulation - 1) / plan.accumulation;
  if (a.max_steps() > 0) {
    plan.max_steps = a.max_steps();
    plan.num_train_epochs = (plan.max_steps + plan.updates_per_epoch - 1) / plan.updates_per_epoch;
  } else {
    plan.max_steps = static_cast<int64_t>(std::ceil(a.num_train_epochs() * plan.updates_per_epoch));
    plan.num_train_epochs = static_cast<int64_t>(std::ceil(a.num_train_epochs()));
  }
  if (plan.max_steps < 1) {
    return absl::InvalidArgumentError(
        "--num_train_epochs is 0 and --max_steps is not positive: nothing to train");
  }
  plan.logging_steps = NumSteps(a.logging_steps(), plan.max_steps);
  plan.eval_steps = NumSteps(EvalSteps(a), plan.max_steps);
  plan.save_steps = NumSteps(a.save_steps(), plan.max_steps);
  plan.warmup_steps = NumWarmupSteps(a.warmup_steps(), a.warmup_ratio(), plan.max_steps);
  return plan;
}

}  // namespace lathe
