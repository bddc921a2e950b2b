#include "lathe/trainer/flow_callback.h"

#include <cmath>

namespace lathe {
namespace {

bool Falls(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

// Where Hugging Face keeps the count in trainer_state.json.
constexpr char kName[] = "EarlyStoppingCallback";
constexpr char kCounter[] = "early_stopping_patience_counter";

// 0 where there is no such count, whatever is there instead.
int Counter(const TrainerState& state) {
  const nlohmann::json* found = &state.stateful_callbacks;
  for (const char* key : {kName, "attributes", kCounter}) {
    if (!found->is_object() || !found->contains(key)) return 0;
    found = &(*found)[key];
  }
  return found->is_number_integer() ? found->get<int>() : 0;
}

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

absl::Status EarlyStoppingCallback::OnTrainBegin(const TrainerState& state,
                                                 TrainerControl& control) {
  if (Counter(state) >= patience_) control.should_training_stop = true;
  return absl::OkStatus();
}

absl::Status EarlyStoppingCallback::OnEvaluate(TrainerState& state, const nlohmann::json& metrics,
                                               TrainerControl& control) {
  const double value = metrics[metric_].get<double>();
  const bool better =
      !state.best_metric || ((greater_ ? value > *state.best_metric : value < *state.best_metric) &&
                             std::abs(value - *state.best_metric) > threshold_);
  const int counter = better ? 0 : Counter(state) + 1;
  state.stateful_callbacks[kName] = {
      {"args", {{"early_stopping_patience", patience_}, {"early_stopping_threshold", threshold_}}},
      {"attributes", {{kCounter, counter}}}};
  if (counter >= patience_) control.should_training_stop = true;
  return absl::OkStatus();
}

}  // namespace lathe
