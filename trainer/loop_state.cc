#include "lathe/trainer/loop_state.h"

#include <cmath>
#include <limits>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/base/strict_json.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

// JSON has no NaN.
nlohmann::json NumberOrNull(double value) {
  return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(nullptr);
}

absl::Status Read(const nlohmann::ordered_json& json, std::string_view source, const char* key,
                  double* value) {
  const auto found = json.find(key);
  if (found != json.end() && found->is_null()) {
    *value = std::numeric_limits<double>::quiet_NaN();
  } else if (found != json.end() && found->is_number()) {
    *value = found->get<double>();
  } else {
    return absl::InvalidArgumentError(absl::StrCat(source, ": number '", key, "' is missing"));
  }
  return absl::OkStatus();
}

absl::Status Read(const nlohmann::ordered_json& json, std::string_view source, const char* key,
                  int64_t* value) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_number_unsigned() ||
      found->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": count '", key, "' is missing"));
  }
  *value = found->get<int64_t>();
  return absl::OkStatus();
}

}  // namespace

std::string LoopState::ToJson() const {
  const nlohmann::json json = {{"total_loss", NumberOrNull(total_loss)},
                               {"loss_since_log", NumberOrNull(loss_since_log)},
                               {"steps_since_log", steps_since_log},
                               {"last_logged_step", last_logged_step},
                               {"last_grad_norm", NumberOrNull(last_grad_norm)},
                               {"last_learning_rate", NumberOrNull(last_learning_rate)},
                               {"nonfinite_steps", nonfinite_steps},
                               {"nonfinite_in_a_row", nonfinite_in_a_row},
                               {"last_epoch_end_step", last_epoch_end_step},
                               {"evaluation_due", evaluation_due},
                               {"save_due", save_due},
                               {"loss_scale", loss_scale.scale},
                               {"loss_scale_hysteresis", loss_scale.hysteresis},
                               {"loss_scale_updates", loss_scale.updates},
                               {"updates_to_last_overflow", loss_scale.last_overflow + 1},
                               {"overflows", overflows},
                               {"optimizer", optimizer}};
  return json.dump(2) + "\n";
}

absl::StatusOr<LoopState> LoopState::FromJson(std::string_view text, std::string_view source) {
  ABSL_ASSIGN_OR_RETURN(const nlohmann::ordered_json json, ParseStrictJson(text, source));
  if (!json.is_object())
    return absl::InvalidArgumentError(absl::StrCat(source, ": expected a JSON object"));
  LoopState state;
  int64_t updates_to_last_overflow = 0;
  for (const auto& [key, value] : {std::pair<const char*, double*>{"total_loss", &state.total_loss},
                                   {"loss_since_log", &state.loss_since_log},
                                   {"last_grad_norm", &state.last_grad_norm},
                                   {"last_learning_rate", &state.last_learning_rate},
                                   {"loss_scale", &state.loss_scale.scale}}) {
    ABSL_RETURN_IF_ERROR(Read(json, source, key, value));
  }
  for (const auto& [key, value] :
       {std::pair<const char*, int64_t*>{"steps_since_log", &state.steps_since_log},
        {"last_logged_step", &state.last_logged_step},
        {"nonfinite_steps", &state.nonfinite_steps},
        {"nonfinite_in_a_row", &state.nonfinite_in_a_row},
        {"last_epoch_end_step", &state.last_epoch_end_step},
        {"evaluation_due", &state.evaluation_due},
        {"save_due", &state.save_due},
        {"loss_scale_hysteresis", &state.loss_scale.hysteresis},
        {"loss_scale_updates", &state.loss_scale.updates},
        {"updates_to_last_overflow", &updates_to_last_overflow},
        {"overflows", &state.overflows}}) {
    ABSL_RETURN_IF_ERROR(Read(json, source, key, value));
  }
  // Checkpoints from before there was another do not say it.
  if (const auto found = json.find("optimizer"); found != json.end()) {
    if (!found->is_string()) {
      return absl::InvalidArgumentError(absl::StrCat(source, ": 'optimizer' is not a name"));
    }
    state.optimizer = found->get<std::string>();
  }
  state.loss_scale.last_overflow = updates_to_last_overflow - 1;
  return state;
}

}  // namespace lathe
