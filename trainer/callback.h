// Callback: an observer of the training loop. A new behaviour in training is a callback, not a flag
// in the loop.
//
//   class PrintLoss : public Callback {
//     absl::Status OnLog(const TrainerState& state, const nlohmann::json& logs) override { ... }
//   };
//
// Callbacks run on every rank in the order of the list; those that print or write are only given to
// rank 0. What they set in TrainerControl must follow from what all ranks know (state and logs), so
// that all ranks decide alike.
#ifndef LATHE_TRAINER_CALLBACK_H_
#define LATHE_TRAINER_CALLBACK_H_

#include <string>

#include "absl/status/status.h"
#include "lathe/trainer/trainer_state.h"
#include "nlohmann/json.hpp"

namespace lathe {

// What the loop does next; each is reset once done.
struct TrainerControl {
  bool should_log = false;
  bool should_evaluate = false;
  bool should_save = false;
  bool should_training_stop = false;
};

// What a step was, for displays.
struct StepInfo {
  double loss = 0;               // of this update
  double tokens_per_second = 0;  // mean since the end of this run's first step; 0 before
};

class Callback {
 public:
  virtual ~Callback() = default;
  virtual absl::Status OnTrainBegin(const TrainerState&, TrainerControl&) {
    return absl::OkStatus();
  }
  virtual absl::Status OnStepEnd(const TrainerState&, const StepInfo&, TrainerControl&) {
    return absl::OkStatus();
  }
  virtual absl::Status OnEpochEnd(const TrainerState&, TrainerControl&) { return absl::OkStatus(); }
  // `logs` as it goes into log_history, without "step".
  virtual absl::Status OnLog(const TrainerState&, const nlohmann::json& logs) {
    return absl::OkStatus();
  }
  // May keep what a resumed run needs in state.stateful_callbacks.
  virtual absl::Status OnEvaluate(TrainerState&, const nlohmann::json& metrics, TrainerControl&) {
    return absl::OkStatus();
  }
  // `checkpoint` is complete. Under --async_save the state may be some updates ahead of it.
  virtual absl::Status OnSave(const TrainerState&, const std::string& checkpoint) {
    return absl::OkStatus();
  }
  virtual absl::Status OnTrainEnd(const TrainerState&) { return absl::OkStatus(); }
};

}  // namespace lathe

#endif  // LATHE_TRAINER_CALLBACK_H_
