#include "lathe/trainer/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "lathe/base/strict_json.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

// The arithmetic below is done in double and in Python's order of operations, so that logged
// learning rates are equal to the last digit.

template <typename... Parts>
absl::Status Wrong(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat("--lr_scheduler_kwargs: ", parts...));
}

// The keys of lr_scheduler_kwargs, taken one by one; what is left at the end is unknown.
class Kwargs {
 public:
  static absl::StatusOr<Kwargs> Parse(std::string_view text) {
    Kwargs kwargs;
    if (text.empty()) return kwargs;
    ABSL_ASSIGN_OR_RETURN(kwargs.json_, ParseStrictJson(text, "--lr_scheduler_kwargs"));
    if (!kwargs.json_.is_object()) return Wrong("expected a JSON object");
    return kwargs;
  }

  absl::StatusOr<std::optional<double>> OptionalNumber(const std::string& key) {
    known_.insert(key);
    const auto found = json_.find(key);
    if (found == json_.end() || found->is_null()) return std::nullopt;
    if (!found->is_number()) return Wrong(key, ": expected a number, got ", found->dump());
    return found->get<double>();
  }

  absl::StatusOr<double> Number(const std::string& key, double default_value) {
    ABSL_ASSIGN_OR_RETURN(const std::optional<double> value, OptionalNumber(key));
    return value.value_or(default_value);
  }

  // One of `shapes`, of which the first is the default.
  absl::StatusOr<std::string> Shape(const std::string& key,
                                    const std::vector<std::string>& shapes) {
    known_.insert(key);
    const auto found = json_.find(key);
    if (found == json_.end()) return shapes.front();
    const std::string shape = found->is_string() ? found->get<std::string>() : found->dump();
    if (std::find(shapes.begin(), shapes.end(), shape) == shapes.end()) {
      return Wrong(key, ": expected ", absl::StrJoin(shapes, ", "), "; got ", shape);
    }
    return shape;
  }

  absl::Status NothingElse(std::string_view type) const {
    for (auto it = json_.begin(); it != json_.end(); ++it) {
      if (known_.contains(it.key())) continue;
      return Wrong("the schedule ", type, " has no '", it.key(), "'; it has ",
                   known_.empty() ? "none" : absl::StrJoin(known_, ", "));
    }
    return absl::OkStatus();
  }

 private:
  nlohmann::ordered_json json_ = nlohmann::ordered_json::object();
  std::set<std::string> known_;
};

using StepFactor = std::function<double(double)>;

// Rises from 0 over the warmup, then follows `after`.
StepFactor WithWarmup(double warmup, StepFactor after) {
  return [=](double step) { return step < warmup ? step / std::max(1.0, warmup) : after(step); };
}

double Progress(double step, double warmup, double total) {
  return (step - warmup) / std::max(1.0, total - warmup);
}

double HalfCosine(double cycles, double progress) {
  return 0.5 * (1.0 + std::cos(M_PI * cycles * 2.0 * progress));
}

absl::StatusOr<StepFactor> Cosine(double warmup, double total, Kwargs& kwargs) {
  ABSL_ASSIGN_OR_RETURN(const double cycles, kwargs.Number("num_cycles", 0.5));
  return WithWarmup(warmup, [=](double step) {
    return std::max(0.0, HalfCosine(cycles, Progress(step, warmup, total)));
  });
}

absl::StatusOr<StepFactor> CosineWithRestarts(double warmup, double total, Kwargs& kwargs) {
  ABSL_ASSIGN_OR_RETURN(const double cycles, kwargs.Number("num_cycles", 1));
  return WithWarmup(warmup, [=](double step) {
    const double progress = Progress(step, warmup, total);
    if (progress >= 1.0) return 0.0;
    return std::max(0.0, 0.5 * (1.0 + std::cos(M_PI * std::fmod(cycles * progress, 1.0))));
  });
}

absl::StatusOr<StepFactor> Polynomial(double warmup, double total, double lr, Kwargs& kwargs) {
  ABSL_ASSIGN_OR_RETURN(const double lr_end, kwargs.Number("lr_end", 1e-7));
  ABSL_ASSIGN_OR_RETURN(const double power, kwargs.Number("power", 1.0));
  if (!(lr > lr_end)) {
    return Wrong("lr_end ", lr_end, " must be less than --learning_rate ", lr);
  }
  return WithWarmup(warmup, [=](double step) {
    const double decay_steps = total - warmup;
    if (step > total || decay_steps <= 0) return lr_end / lr;
    const double remaining = 1 - (step - warmup) / decay_steps;
    return ((lr - lr_end) * std::pow(remaining, power) + lr_end) / lr;
  });
}

absl::StatusOr<StepFactor> InverseSqrt(double warmup, Kwargs& kwargs) {
  ABSL_ASSIGN_OR_RETURN(const double timescale,
                        kwargs.Number("timescale", warmup > 0 ? warmup : 10000));
  if (!(timescale > 0)) return Wrong("timescale: expected more than 0, got ", timescale);
  return WithWarmup(warmup, [=](double step) {
    return 1.0 / std::sqrt((step + (timescale - warmup)) / timescale);
  });
}

// min_lr and min_lr_rate, of which exactly one must be there.
absl::StatusOr<double> MinimalRate(double lr, Kwargs& kwargs) {
  ABSL_ASSIGN_OR_RETURN(const std::optional<double> min_lr, kwargs.OptionalNumber("min_lr"));
  ABSL_ASSIGN_OR_RETURN(const std::optional<double> min_lr_rate,
                        kwargs.OptionalNumber("min_lr_rate"));
  if (min_lr.has_value() == min_lr_rate.has_value()) {
    return Wrong("give one of min_lr and min_lr_rate");
  }
  if (min_lr_rate) return *min_lr_rate;
  if (!(lr > 0)) return Wrong("min_lr needs a --learning_rate above 0");
  return *min_lr / lr;
}

absl::StatusOr<StepFactor> CosineWithMinLr(double warmup, double total, double lr, Kwargs& kwargs) {
  ABSL_ASSIGN_OR_RETURN(const double cycles, kwargs.Number("num_cycles", 0.5));
  ABSL_ASSIGN_OR_RETURN(const double least, MinimalRate(lr, kwargs));
  return WithWarmup(warmup, [=](double step) {
    const double factor = HalfCosine(cycles, Progress(step, warmup, total));
    return std::max(0.0, factor * (1 - least) + least);
  });
}

absl::StatusOr<StepFactor> CosineWarmupWithMinLr(double warmup, double total, double lr,
                                                 Kwargs& kwargs) {
  ABSL_ASSIGN_OR_RETURN(const double cycles, kwargs.Number("num_cycles", 0.5));
  ABSL_ASSIGN_OR_RETURN(const double least, MinimalRate(lr, kwargs));
  ABSL_ASSIGN_OR_RETURN(const std::optional<double> start, kwargs.OptionalNumber("warmup_lr_rate"));
  return [=](double step) {
    if (step < warmup) {
      if (!start) return (step + 1.0) / std::max(1.0, warmup);
      return *start + (1.0 - *start) * step / std::max(1.0, warmup - 1);
    }
    const double progress = (step - warmup + 1.0) / std::max(1.0, total - warmup);
    return std::max(0.0, HalfCosine(cycles, progress) * (1 - least) + least);
  };
}

absl::StatusOr<StepFactor> WarmupStableDecay(double warmup, double total, Kwargs& kwargs) {
  ABSL_ASSIGN_OR_RETURN(const std::optional<double> decay,
                        kwargs.OptionalNumber("num_decay_steps"));
  ABSL_ASSIGN_OR_RETURN(const std::optional<double> given_stable,
                        kwargs.OptionalNumber("num_stable_steps"));
  ABSL_ASSIGN_OR_RETURN(const std::string warmup_type,
                        kwargs.Shape("warmup_type", {"linear", "cosine", "1-sqrt"}));
  ABSL_ASSIGN_OR_RETURN(const std::string decay_type,
                        kwargs.Shape("decay_type", {"cosine", "linear", "1-sqrt"}));
  ABSL_ASSIGN_OR_RETURN(const double least, kwargs.Number("min_lr_ratio", 0));
  ABSL_ASSIGN_OR_RETURN(const double cycles, kwargs.Number("num_cycles", 0.5));
  if (!decay) return Wrong("the schedule warmup_stable_decay needs num_decay_steps");
  const double decay_steps = *decay;
  const double stable = given_stable.value_or(total - warmup - decay_steps);
  return [=](double step) {
    const auto scaled = [=](double factor) {
      return std::max(0.0, factor * (1.0 - least) + least);
    };
    if (step < warmup) {
      const double progress = step / std::max(1.0, warmup);
      if (warmup_type == "linear") return scaled(progress);
      if (warmup_type == "cosine") return scaled(0.5 * (1.0 - std::cos(M_PI * progress)));
      return scaled(1.0 - std::sqrt(1.0 - progress));
    }
    if (step < warmup + stable) return 1.0;
    if (step < warmup + stable + decay_steps) {
      const double progress = (step - warmup - stable) / std::max(1.0, decay_steps);
      if (decay_type == "linear") return scaled(1.0 - progress);
      if (decay_type == "cosine") return scaled(HalfCosine(cycles, progress));
      return scaled(1.0 - std::sqrt(progress));
    }
    return least;
  };
}

// DeepSpeed's warmup: how far it has come, from 0 to 1, before the step of its own count.
absl::StatusOr<StepFactor> DeepSpeedWarmup(double warmup, Kwargs& kwargs) {
  ABSL_ASSIGN_OR_RETURN(const std::string type, kwargs.Shape("warmup_type", {"log", "linear"}));
  if (type == "linear") return [=](double step) { return step / warmup; };
  const double inverse_log = 1.0 / std::log(warmup);
  return [=](double step) { return inverse_log * std::log(step + 1); };
}

// WarmupLR, and WarmupDecayLR, which then falls linearly to 0.
absl::StatusOr<StepFactor> DeepSpeedWarmupLr(double warmup, double total, double lr, bool decays,
                                             Kwargs& kwargs) {
  ABSL_ASSIGN_OR_RETURN(const double min_lr, kwargs.Number("warmup_min_lr", 0));
  ABSL_ASSIGN_OR_RETURN(const double max_lr, kwargs.Number("warmup_max_lr", lr));
  ABSL_ASSIGN_OR_RETURN(const StepFactor rise, DeepSpeedWarmup(warmup, kwargs));
  if (!(lr > 0) && (min_lr > 0 || max_lr > 0)) {
    return Wrong("warmup_min_lr and warmup_max_lr need a --learning_rate above 0");
  }
  const double least = lr > 0 ? min_lr / lr : 0;
  const double most = lr > 0 ? max_lr / lr : 1;
  return [=](double update) {
    const double step = update - 1;  // DeepSpeed's scheduler runs one update late
    if (step < 0) return least;
    double gamma = 1;
    if (step < warmup) {
      gamma = rise(step);
    } else if (decays) {
      gamma = std::max(0.0, (total - step) / std::max(1.0, total - warmup));
    }
    return least + (most - least) * gamma;
  };
}

absl::StatusOr<StepFactor> DeepSpeedWarmupCosineLr(double warmup, double total, Kwargs& kwargs) {
  ABSL_ASSIGN_OR_RETURN(const double min_ratio, kwargs.Number("warmup_min_ratio", 0));
  ABSL_ASSIGN_OR_RETURN(const double cos_min_ratio, kwargs.Number("cos_min_ratio", 0.0001));
  ABSL_ASSIGN_OR_RETURN(const StepFactor rise, DeepSpeedWarmup(warmup, kwargs));
  return [=](double update) {
    const double step = update - 1;
    if (step < 0) return 0.0;  // whatever warmup_min_ratio says
    if (step < warmup) return min_ratio + rise(step) * (1.0 - min_ratio);
    const double progress = std::min(1.0, (step - warmup + 1) / std::max(1.0, total - warmup));
    const double cosine = (1 + std::cos(M_PI * progress)) / 2;
    return std::max(0.0, cos_min_ratio + (1.0 - cos_min_ratio) * cosine);
  };
}

absl::StatusOr<StepFactor> MakeFactor(const LrScheduleOptions& options, Kwargs& kwargs) {
  const double warmup = static_cast<double>(options.num_warmup_steps);
  const double total = static_cast<double>(options.num_training_steps);
  const double lr = options.learning_rate;
  if (options.type == "linear") {
    return WithWarmup(warmup, [=](double step) {
      return std::max(0.0, (total - step) / std::max(1.0, total - warmup));
    });
  }
  if (options.type == "constant") return [](double) { return 1.0; };
  if (options.type == "constant_with_warmup") {
    return WithWarmup(warmup, [](double) { return 1.0; });
  }
  if (options.type == "cosine") return Cosine(warmup, total, kwargs);
  if (options.type == "cosine_with_restarts") return CosineWithRestarts(warmup, total, kwargs);
  if (options.type == "polynomial") return Polynomial(warmup, total, lr, kwargs);
  if (options.type == "inverse_sqrt") return InverseSqrt(warmup, kwargs);
  if (options.type == "cosine_with_min_lr") return CosineWithMinLr(warmup, total, lr, kwargs);
  if (options.type == "cosine_warmup_with_min_lr") {
    return CosineWarmupWithMinLr(warmup, total, lr, kwargs);
  }
  if (options.type == "warmup_stable_decay") return WarmupStableDecay(warmup, total, kwargs);
  const double at_least_two = std::max(2.0, warmup);  // log(1) is 0
  if (options.type == "WarmupLR" || options.type == "WarmupDecayLR") {
    return DeepSpeedWarmupLr(at_least_two, total, lr, options.type == "WarmupDecayLR", kwargs);
  }
  if (options.type == "WarmupCosineLR") return DeepSpeedWarmupCosineLr(at_least_two, total, kwargs);
  return absl::InvalidArgumentError(
      absl::StrCat("--lr_scheduler_type: there is no schedule '", options.type, "'"));
}

}  // namespace

absl::StatusOr<LrSchedule> LrSchedule::Create(const LrScheduleOptions& options) {
  ABSL_ASSIGN_OR_RETURN(Kwargs kwargs, Kwargs::Parse(options.kwargs));
  ABSL_ASSIGN_OR_RETURN(StepFactor factor, MakeFactor(options, kwargs));
  ABSL_RETURN_IF_ERROR(kwargs.NothingElse(options.type));
  return LrSchedule(std::move(factor));
}

int64_t NumWarmupSteps(double warmup_steps, double warmup_ratio, int64_t num_training_steps) {
  if (warmup_steps >= 1) return static_cast<int64_t>(warmup_steps);
  const double ratio = warmup_steps > 0 ? warmup_steps : warmup_ratio;
  return static_cast<int64_t>(std::ceil(static_cast<double>(num_training_steps) * ratio));
}

}  // namespace lathe
