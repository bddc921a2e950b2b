#ifndef LATHE_TRAINER_LR_SCHEDULE_H_
#define LATHE_TRAINER_LR_SCHEDULE_H_

// Learning-rate schedules by Hugging Face's names and formulas.
//
//   ABSL_ASSIGN_OR_RETURN(LrSchedule schedule, LrSchedule::Create({
//       .type = "cosine", .num_warmup_steps = 20, .num_training_steps = 1000, .learning_rate =
//       1e-4}));
//   double rate = 1e-4 * schedule.Factor(step);       // update `step`, counted from 0
//
// A schedule is a pure function of the step: resuming needs no state. Immutable; use from any
// thread.
//
// DeepSpeed's schedules are there too, for its configuration files. They run one update late, as
// DeepSpeed's do: updates 0 and 1 both have the lowest rate.
//
// Source: transformers 5.17 optimization.py, the functions that get_scheduler calls; the factor is
// what torch's LambdaLR multiplies the base rate with. DeepSpeed 0.19.8 runtime/lr_schedules.py.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace lathe {

struct LrScheduleOptions {
  // linear, cosine, cosine_with_restarts, polynomial, constant, constant_with_warmup, inverse_sqrt,
  // cosine_with_min_lr, cosine_warmup_with_min_lr or warmup_stable_decay; or DeepSpeed's WarmupLR,
  // WarmupDecayLR (kwargs warmup_type, warmup_min_lr, warmup_max_lr) or WarmupCosineLR
  // (warmup_type, warmup_min_ratio, cos_min_ratio).
  std::string type = "linear";
  int64_t num_warmup_steps = 0;
  int64_t num_training_steps = 0;
  // The peak rate; polynomial's lr_end and the min_lr of others are relative to it.
  double learning_rate = 0;
  // --lr_scheduler_kwargs: a JSON object, or "" for none.
  std::string kwargs = {};
};

class LrSchedule {
 public:
  // Errors: InvalidArgument, naming the flag or the key of lr_scheduler_kwargs, for an unknown
  // type, a key that this type does not have, a value of a wrong type, or a missing one.
  static absl::StatusOr<LrSchedule> Create(const LrScheduleOptions& options);

  // What the peak rate is multiplied with in update `step` >= 0.
  double Factor(int64_t step) const { return factor_(static_cast<double>(step)); }

 private:
  explicit LrSchedule(std::function<double(double)> factor) : factor_(std::move(factor)) {}

  std::function<double(double)> factor_;
};

// The number of warmup updates that --warmup_steps and --warmup_ratio ask for: warmup_steps itself
// when it is 1 or more; below 1 it is a share of `num_training_steps`, rounded up; if 0,
// warmup_ratio is.
int64_t NumWarmupSteps(double warmup_steps, double warmup_ratio, int64_t num_training_steps);

}  // namespace lathe

#endif  // LATHE_TRAINER_LR_SCHEDULE_H_
