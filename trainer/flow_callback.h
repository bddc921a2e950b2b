// FlowCallback: when to log, evaluate, save and stop, as Hugging Face's DefaultFlowCallback
// decides.
#ifndef LATHE_TRAINER_FLOW_CALLBACK_H_
#define LATHE_TRAINER_FLOW_CALLBACK_H_

#include <string>
#include <utility>

#include "lathe/trainer/callback.h"
#include "lathe/trainer/training_arguments.pb.h"

namespace lathe {

class FlowCallback : public Callback {
 public:
  explicit FlowCallback(const TrainingArguments& arguments) : arguments_(arguments) {}
  absl::Status OnStepEnd(const TrainerState& state, const StepInfo& info,
                         TrainerControl& control) override;
  absl::Status OnEpochEnd(const TrainerState& state, TrainerControl& control) override;

 private:
  const TrainingArguments arguments_;
};

// Stops when the best metric has not improved by more than a threshold for `patience` evaluations
// in a row. Counts in the state, so that a resumed run stops where the uninterrupted one does, and
// a run that was stopped does not go on. Source: transformers trainer_callback.py,
// EarlyStoppingCallback.
class EarlyStoppingCallback : public Callback {
 public:
  // `metric` as in the metrics ("eval_loss"); `greater`: whether more is better.
  EarlyStoppingCallback(int patience, double threshold, std::string metric, bool greater)
      : patience_(patience), threshold_(threshold), metric_(std::move(metric)), greater_(greater) {}
  absl::Status OnTrainBegin(const TrainerState& state, TrainerControl& control) override;
  absl::Status OnEvaluate(TrainerState& state, const nlohmann::json& metrics,
                          TrainerControl& control) override;

 private:
  const int patience_;
  const double threshold_;
  const std::string metric_;
  const bool greater_;
};

}  // namespace lathe

#endif  // LATHE_TRAINER_FLOW_CALLBACK_H_
