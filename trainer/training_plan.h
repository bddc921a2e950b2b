// TrainingPlan: how many updates a run has and where each begins, Hugging Face's arithmetic as pure
// functions.
#ifndef LATHE_TRAINER_TRAINING_PLAN_H_
#define LATHE_TRAINER_TRAINING_PLAN_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "lathe/trainer/training_arguments.pb.h"

namespace lathe {

struct TrainingPlan {
  int64_t batches_per_epoch = 0;  // micro batches of one rank
  int64_t accumulation = 1;
  int64_t updates_per_epoch = 0;  // the last takes the micro batches that are left
  int64_t max_steps = 0;          // updates in all
  int64_t num_train_epochs = 0;   // epochs begun
  // In updates; shares of the run are multiplied out.
  int64_t logging_steps = 0, eval_steps = 0, save_steps = 0, warmup_steps = 0;

  // Micro batches of update `u` within its epoch.
  int64_t WindowSize(int64_t update_in_epoch) const;
};

// Errors: InvalidArgument if there is nothing to train (no batches, no updates), naming the flag.
// Source: transformers trainer.py, set_initial_training_values, and trainer_callback.py,
// compute_steps.
absl::StatusOr<TrainingPlan> MakeTrainingPlan(const TrainingArguments& arguments,
                                              int64_t batches_per_epoch);

}  // namespace lathe

#endif  // LATHE_TRAINER_TRAINING_PLAN_H_
