#include "lathe/trainer/training_arguments.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "absl/status/status_macros.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "lathe/trainer/lr_schedule.h"

namespace lathe {
namespace {

// Whole numbers are exact in a double up to here.
constexpr double kMostSteps = 9007199254740992.0;

constexpr char kEvalLoss[] = "eval_loss";

template <typename... Parts>
absl::Status Wrong(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

absl::Status CheckStrategy(std::string_view kind, std::string_view strategy, double steps) {
  if (strategy == "steps" && steps == 0) {
    return Wrong("--", kind, "_strategy steps needs a --", kind, "_steps above 0");
  }
  return absl::OkStatus();
}

// Every checkpoint must have been evaluated, or the best one could not be told.
absl::Status CheckBestModel(const TrainingArguments& arguments) {
  const std::string& eval = arguments.eval_strategy();
  const std::string& save = arguments.save_strategy();
  if (save == "best" || arguments.load_best_model_at_end()) {
    const std::string_view why =
        save == "best" ? "--save_strategy best" : "--load_best_model_at_end";
    if (eval == "no") return Wrong(why, " needs an --eval_strategy other than no");
  }
  if (!arguments.load_best_model_at_end() || save == "best") return absl::OkStatus();
  if (eval != save) {
    return Wrong(
        "--load_best_model_at_end needs --save_strategy best, or equal strategies; got "
        "--eval_strategy ",
        eval, " and --save_strategy ", save);
  }
  if (eval != "steps") return absl::OkStatus();
  const double eval_steps = EvalSteps(arguments);
  const double save_steps = arguments.save_steps();
  if ((eval_steps < 1) != (save_steps < 1)) {
    return Wrong("--load_best_model_at_end needs --save_steps (", save_steps,
                 ") to be a multiple of --eval_steps (", eval_steps,
                 "), which a share of the run and a number of updates cannot promise");
  }
  // In millionths, so that 0.3 is a multiple of 0.1.
  const double scale = eval_steps < 1 ? 1e6 : 1;
  if (std::fmod(std::round(save_steps * scale), std::round(eval_steps * scale)) != 0) {
    return Wrong("--load_best_model_at_end needs --save_steps (", save_steps,
                 ") to be a multiple of --eval_steps (", eval_steps, ")");
  }
  return absl::OkStatus();
}

absl::Status CheckRecomputation(const TrainingArguments& arguments) {
  const std::string& granularity = arguments.recompute_granularity();
  const bool full = granularity == "full" || arguments.gradient_checkpointing();
  if (granularity == "selective" && arguments.gradient_checkpointing()) {
    return Wrong("--gradient_checkpointing is --recompute_granularity full; got selective: choose");
  }
  if (arguments.recompute_modules_size() > 0 && granularity != "selective") {
    return Wrong("--recompute_modules needs --recompute_granularity selective");
  }
  const bool block = arguments.recompute_method() == "block";
  if (block && !full) {
    return Wrong("--recompute_method block needs --recompute_granularity full");
  }
  if (block && !arguments.has_recompute_num_layers()) {
    return Wrong("--recompute_method block needs --recompute_num_layers");
  }
  if (!block && arguments.has_recompute_num_layers() &&
      (!full || arguments.recompute_num_layers() != 1)) {
    return Wrong(
        "--recompute_num_layers ", arguments.recompute_num_layers(),
        " needs --recompute_granularity full and --recompute_method block; uniform computes "
        "every layer again by itself");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckTrainingArguments(const TrainingArguments& arguments) {
  if (arguments.output_dir().empty()) return Wrong("--output_dir is empty");
  ABSL_RETURN_IF_ERROR(
      CheckStrategy("logging", arguments.logging_strategy(), arguments.logging_steps()));
  ABSL_RETURN_IF_ERROR(CheckStrategy("save", arguments.save_strategy(), arguments.save_steps()));
  if (arguments.eval_strategy() == "steps" && EvalSteps(arguments) == 0) {
    return Wrong("--eval_strategy steps needs an --eval_steps or --logging_steps above 0");
  }
  ABSL_RETURN_IF_ERROR(CheckBestModel(arguments));
  if (TracksBestModel(arguments) && MetricForBestModel(arguments) != kEvalLoss) {
    return Wrong("--metric_for_best_model ", arguments.metric_for_best_model(),
                 " is not measured; there is ", kEvalLoss);
  }
  // The steps are not known yet; type and kwargs are.
  ABSL_RETURN_IF_ERROR(LrSchedule::Create({.type = arguments.lr_scheduler_type(),
                                           .num_warmup_steps = 0,
                                           .num_training_steps = 1,
                                           .learning_rate = arguments.learning_rate(),
                                           .kwargs = arguments.lr_scheduler_kwargs()})
                           .status());
  ABSL_RETURN_IF_ERROR(CheckRecomputation(arguments));
  if (arguments.bf16() && arguments.fp16()) return Wrong("--bf16 and --fp16 exclude each other");
  if (arguments.grad_accum_dtype() == "bf16" && !arguments.bf16()) {
    return Wrong("--grad_accum_dtype bf16 needs --bf16");
  }
  if (arguments.has_early_stopping_patience() && arguments.eval_strategy() == "no") {
    return Wrong("--early_stopping_patience needs an --eval_strategy other than no");
  }
  if (arguments.num_train_epochs() > 1e9) {
    return Wrong("--num_train_epochs is ", arguments.num_train_epochs(), "; at most 1e9 can be");
  }
  if (arguments.max_steps() <= 0 && arguments.num_train_epochs() == 0) {
    return Wrong("--num_train_epochs 0 leaves nothing to train; for that: --no_do_train");
  }
  return absl::OkStatus();
}

int64_t NumSteps(double value, int64_t max_steps) {
  // A count that no run can reach is one that it cannot pass either.
  if (value >= 1) return static_cast<int64_t>(std::min(value, kMostSteps));
  return static_cast<int64_t>(std::ceil(static_cast<double>(max_steps) * value));
}

double EvalSteps(const TrainingArguments& arguments) {
  if (arguments.eval_steps() > 0) return arguments.eval_steps();
  return arguments.eval_strategy() == "steps" ? arguments.logging_steps() : 500;
}

bool TracksBestModel(const TrainingArguments& arguments) {
  return arguments.has_metric_for_best_model() || arguments.load_best_model_at_end() ||
         arguments.save_strategy() == "best" || arguments.has_early_stopping_patience();
}

std::string MetricForBestModel(const TrainingArguments& arguments) {
  const std::string& metric = arguments.metric_for_best_model();
  if (metric.empty()) return kEvalLoss;
  return absl::StartsWith(metric, "eval_") ? metric : absl::StrCat("eval_", metric);
}

bool GreaterIsBetter(const TrainingArguments& arguments) {
  if (arguments.has_greater_is_better()) return arguments.greater_is_better();
  return !absl::EndsWith(MetricForBestModel(arguments), "loss");
}

Recomputation WhatIsRecomputed(const TrainingArguments& arguments) {
  Recomputation result;
  if (arguments.recompute_granularity() == "full" || arguments.gradient_checkpointing()) {
    result.num_layers = arguments.recompute_method() == "block" ? arguments.recompute_num_layers()
                                                                : std::numeric_limits<int>::max();
  }
  for (const std::string& module : arguments.recompute_modules()) {
    result.mlp = result.mlp || module == "mlp";
  }
  return result;
}

std::vector<std::string> ReportTargets(const TrainingArguments& arguments) {
  std::vector<std::string> targets;
  for (std::string_view target : {"tensorboard", "swanlab", "wandb"}) {
    const bool wanted =
        std::any_of(arguments.report_to().begin(), arguments.report_to().end(),
                    [&](const std::string& word) { return word == target || word == "all"; });
    if (wanted) targets.emplace_back(target);
  }
  return targets;
}

}  // namespace lathe
