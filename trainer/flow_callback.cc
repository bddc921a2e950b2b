#include "lathe/trainer/flow_callback.h"

#include <cmath>

namespace lathe {
namespace {

bool Falls(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

}  // namespace

absl::Status FlowCallback::OnStepEnd(const TrainerState& state, const StepInfo&,
                                     TrainerControl& control) {
  const int64_t step = state.global_step;
  if (step == 1 && arguments_.logging_first_step()) control.should_log = true;
  if (arguments_.logging_strategy() == "steps" && Falls(step, state.logging_steps))
    control.should_log = true;
  const bool evaluates = arguments_.eval_strategy() == "steps";
  if (evaluates && Falls(step, state.eval_steps)) control.should_evaluate = true;
  if (arguments_.save_strategy() == "steps" && Falls(step, state.save_steps))
    control.should_save = true;
  if (step >= state.max_steps) {
    control.should_training_stop = true;
    if (evaluates) control.should_evaluate = true;
    if (arguments_.save_strategy() == "steps") control.should_save = true;
  }
  return absl::OkStatus();
}

absl::Status FlowCallback::OnEpochEnd(const TrainerState&, TrainerControl& control) {
  if (arguments_.logging_strategy() == "epoch") control.should_log = true;
  if (arguments_.eval_strategy() == "epoch") control.should_evaluate = true;
  if (arguments_.save_strategy() == "epoch") control.should_save = true;
  return absl::OkStatus();
}

absl::Status EarlyStoppingCallback::OnEvaluate(const TrainerState&, const nlohmann::json& metrics,
                                               TrainerControl& control) {
  const double value = metrics[metric_].get<double>();
  const bool better = !best_ || ((greater_ ? value > *best_ : value < *best_) &&
                                 std::abs(value - *best_) > threshold_);
  if (better) {
    best_ = value;
    evaluations_without_progress_ = 0;
  } else if (++evaluations_without_progress_ >= patience_) {
    control.should_training_stop = true;
  }
  return absl::OkStatus();
}

}  // namespace lathe
