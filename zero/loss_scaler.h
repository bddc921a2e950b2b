// LossScaler: what fp16 training multiplies its loss by, so that small gradients do not vanish.
// DeepSpeed's rules: an overflow halves the scale once `hysteresis` is used up, `loss_scale_window`
// updates without one double it.
//
//   LossScaler scaler(settings);
//   ... forward and backward of loss * scaler.scale() ...
//   optimizer.Step(learning_rate, finite, scaler.scale());
//   ABSL_ASSIGN_OR_RETURN(const std::string message, scaler.Update(/*overflow=*/result.skipped));
//
// All ranks make the same calls with the same outcomes, and so keep the same scale. Thread rule: a
// value.
//
// Source: DeepSpeed 0.19.8 runtime/fp16/loss_scaler.py, DynamicLossScaler.
#ifndef LATHE_ZERO_LOSS_SCALER_H_
#define LATHE_ZERO_LOSS_SCALER_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "lathe/zero/zero_settings.h"

namespace lathe {

class LossScaler {
 public:
  // What a resumed run must know. A scale of 0: never in use.
  struct State {
    double scale = 0;
    int64_t hysteresis = 0;
    int64_t updates = 0;
    int64_t last_overflow = -1;  // the number of that update, from 0

    friend bool operator==(const State&, const State&) = default;
  };

  explicit LossScaler(const LossScaleSettings& settings);

  double scale() const { return state_.scale; }
  bool dynamic() const { return settings_.loss_scale == 0; }

  // After an update that was taken or, for `overflow`, skipped. Returns a line for the log, empty
  // where nothing is to be said; a scale that is not dynamic stays. Errors: Aborted at an overflow
  // under the smallest scale: the run does not come back from that.
  absl::StatusOr<std::string> Update(bool overflow);

  const State& state() const { return state_; }
  // Goes on from a checkpoint's; keeps its own where that run had no scale, or this one's is not
  // dynamic.
  void Restore(const State& state);

 private:
  const LossScaleSettings settings_;
  State state_;
};

}  // namespace lathe

#endif  // LATHE_ZERO_LOSS_SCALER_H_
