#include "lathe/zero/loss_scaler.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lathe {
namespace {

constexpr double kFactor = 2;

}  // namespace

LossScaler::LossScaler(const LossScaleSettings& settings)
    : settings_(settings),
      state_{.scale = settings.loss_scale > 0 ? settings.loss_scale
                                              : std::ldexp(1.0, settings.initial_scale_power),
             .hysteresis = settings.hysteresis} {}

absl::StatusOr<std::string> LossScaler::Update(bool overflow) {
  if (!dynamic()) return std::string();
  const int64_t update = state_.updates++;
  if (!overflow) {
    if (settings_.consecutive_hysteresis) state_.hysteresis = settings_.hysteresis;
    const int64_t stable = update - state_.last_overflow - 1;
    if (stable <= 0 || stable % settings_.loss_scale_window != 0) return std::string();
    state_.hysteresis = settings_.hysteresis;
    state_.scale *= kFactor;
    return absl::StrCat("loss scale doubled to ", state_.scale);
  }
  state_.last_overflow = update;
  if (state_.hysteresis > 1) {
    --state_.hysteresis;
    return absl::StrCat("OVERFLOW! The update was skipped. Loss scale ", state_.scale,
                        " stays; hysteresis is down to ", state_.hysteresis);
  }
  const auto smallest = static_cast<double>(settings_.min_loss_scale);
  if (state_.scale == smallest) {
    return absl::AbortedError(absl::StrCat(
        "fp16 overflows under the smallest loss scale, ", smallest,
        ": the loss or a gradient is not finite; train with --bf16, lower --learning_rate or look "
        "at the data"));
  }
  const double attempted = state_.scale;
  state_.scale = std::max(attempted / kFactor, smallest);
  return absl::StrCat("OVERFLOW! The update was skipped. Attempted loss scale ", attempted,
                      ", reducing to ", state_.scale);
}

void LossScaler::Restore(const State& state) {
  if (dynamic() && state.scale > 0) state_ = state;
}

}  // namespace lathe
