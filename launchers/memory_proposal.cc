// What to change when a run does not fit.
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "lathe/launchers/memory_plan.h"

namespace lathe {
namespace {

// A change to the flags or to the ZeRO stage; false where it changes nothing.
struct Change {
  std::string text;
  std::function<bool(RunConfig&, int& stage)> apply;
};

// From the cheapest in speed to the dearest.
std::vector<Change> Changes(const RunPlan& run, int world_size) {
  std::vector<Change> changes;
  const ParallelArguments& parallel = run.config.parallel();
  const int dp = world_size /
                 (parallel.tensor_model_parallel_size() * parallel.pipeline_model_parallel_size());
  const auto to_stage = [](int stage) {
    return Change{absl::StrCat("--deepspeed with zero_optimization.stage ", stage),
                  [stage](RunConfig&, int& now) {
                    if (now >= stage) return false;
                    now = stage;
                    return true;
                  }};
  };
  if (dp > 1) changes.push_back(to_stage(2));
  changes.push_back({"--gradient_checkpointing", [](RunConfig& config, int&) {
                       TrainingArguments* a = config.mutable_training();
                       if (a->gradient_checkpointing() || a->recompute_granularity() == "full") {
                         return false;
                       }
                       a->set_recompute_granularity("full");
                       a->clear_recompute_modules();
                       return true;
                     }});
  if (dp > 1) changes.push_back(to_stage(3));
  for (int rows = run.config.training().per_device_train_batch_size() / 2; rows >= 1; rows /= 2) {
    const int before = run.config.training().per_device_train_batch_size();
    if (before % rows != 0) continue;
    const int steps = run.config.training().gradient_accumulation_steps() * (before / rows);
    changes.push_back({absl::StrCat("--per_device_train_batch_size ", rows,
                                    " --gradient_accumulation_steps ", steps),
                       [rows, steps](RunConfig& config, int&) {
                         config.mutable_training()->set_per_device_train_batch_size(rows);
                         config.mutable_training()->set_gradient_accumulation_steps(steps);
                         return true;
                       }});
  }
  for (int tp = 2 * parallel.tensor_model_parallel_size(); tp <= world_size; tp *= 2) {
    changes.push_back(
        {absl::StrCat("--tensor_model_parallel_size ", tp), [tp](RunConfig& config, int&) {
           config.mutable_parallel()->set_tensor_model_parallel_size(tp);
           return true;
         }});
  }
  return changes;
}

// The peak with these changes; an error where they do not go together with the run.
absl::StatusOr<int64_t> PeakWith(RunConfig config, int stage, const RunPlan& original,
                                 int world_size) {
  // The file's values are in the configuration already; what weights do after a forward, in
  // `units`.
  config.mutable_training()->clear_deepspeed();
  config.mutable_training()->clear_reshard_after_forward();
  ABSL_ASSIGN_OR_RETURN(RunPlan run, MakeRunPlan(config, world_size));
  run.zero = original.zero;
  run.units = original.units;
  run.optimizer = original.optimizer;
  run.optimizer.stage = stage;
  ABSL_ASSIGN_OR_RETURN(const MemoryPlan plan, PlanMemory(run, world_size));
  return plan.peak();
}

std::string GB(int64_t bytes) {
  return absl::StrFormat("%.3g GB", static_cast<double>(bytes) / 1e9);
}

// The changes that together fit, the first few of the list that are needed.
std::string Proposal(const RunPlan& run, int world_size, int64_t limit) {
  RunConfig config = run.config;
  int stage = run.optimizer.stage;
  std::vector<std::string> texts;
  int64_t least = -1;
  const auto is_same_flag = [](const std::string& a, const std::string& b) {
    return a.substr(0, a.find(' ')) == b.substr(0, b.find(' '));
  };
  for (const Change& change : Changes(run, world_size)) {
    RunConfig changed = config;
    int changed_stage = stage;
    if (!change.apply(changed, changed_stage)) continue;
    const absl::StatusOr<int64_t> peak = PeakWith(changed, changed_stage, run, world_size);
    if (!peak.ok() || (least >= 0 && *peak >= least)) continue;
    least = *peak;
    config = changed;
    stage = changed_stage;
    if (!texts.empty() && is_same_flag(texts.back(), change.text)) texts.pop_back();
    texts.push_back(change.text);
    if (least <= limit) {
      return absl::StrCat("it would take ", GB(least), " with ", absl::StrJoin(texts, " and "));
    }
  }
  const std::string most = least < 0 ? "" : absl::StrCat(" (", GB(least), " at least)");
  return absl::StrCat("no change of stage, recomputation, batch or tensor degree makes it fit",
                      most, "; use more ranks, or offload_optimizer and offload_param");
}

}  // namespace

absl::Status CheckMemoryLimit(const RunConfig& flags, const RunPlan& run, int world_size) {
  if (!flags.training().has_memory_limit()) return absl::OkStatus();
  ABSL_ASSIGN_OR_RETURN(const int64_t limit, ParseMemorySize(flags.training().memory_limit()));
  ABSL_ASSIGN_OR_RETURN(const MemoryPlan plan, PlanMemory(run, world_size));
  if (plan.peak() <= limit) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("this run takes ", GB(plan.peak()),
                                                    " a rank, --memory_limit is ", GB(limit), ": ",
                                                    Proposal(run, world_size, limit)));
}

}  // namespace lathe
