// What to change when a run does not fit.
#include <algorithm>
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

// What changes of a run: its flags, and what its DeepSpeed file says.
struct Choice {
  RunConfig config;
  ZeroSettings zero;
};

struct Change {
  // What it sets: of two changes of one setting, the later counts.
  std::string setting;
  std::string flags;  // as a person gives it; "" for what the DeepSpeed file says
  std::function<void(Choice&)> apply;
};

using Changes = std::vector<const Change*>;

Change ToStage(int stage) {
  return {"stage", "", [stage](Choice& c) { c.zero.stage = std::max(c.zero.stage, stage); }};
}

Change Recompute() {
  return {"recomputation", "--gradient_checkpointing", [](Choice& c) {
            c.config.mutable_training()->set_recompute_granularity("full");
            c.config.mutable_training()->clear_recompute_modules();
          }};
}

Change Rows(int rows, int steps) {
  return {"rows",
          absl::StrCat("--per_device_train_batch_size ", rows, " --gradient_accumulation_steps ",
                       steps),
          [rows, steps](Choice& c) {
            c.config.mutable_training()->set_per_device_train_batch_size(rows);
            c.config.mutable_training()->set_gradient_accumulation_steps(steps);
          }};
}

Change TensorDegree(int tp) {
  return {"tensor degree", absl::StrCat("--tensor_model_parallel_size ", tp),
          [tp](Choice& c) { c.config.mutable_parallel()->set_tensor_model_parallel_size(tp); }};
}

Change StatesToDisk() {
  return {"offload_optimizer", "", [](Choice& c) {
            c.zero.stage = std::max(c.zero.stage, 1);
            c.zero.offload_optimizer.device = OffloadDevice::kNvme;
          }};
}

Change WeightsToDisk() {
  return {"offload_param", "", [](Choice& c) {
            c.zero.stage = 3;
            c.zero.offload_param.device = OffloadDevice::kNvme;
            c.zero.offload_param.max_in_cpu = 0;
          }};
}

// From the cheapest in speed to the dearest.
std::vector<Change> PossibleChanges(const RunPlan& run, int world_size) {
  std::vector<Change> changes;
  const ParallelArguments& parallel = run.config.parallel();
  const TrainingArguments& training = run.config.training();
  const int dp = world_size /
                 (parallel.tensor_model_parallel_size() * parallel.pipeline_model_parallel_size());
  if (dp > 1) changes.push_back(ToStage(2));
  if (!training.gradient_checkpointing()) changes.push_back(Recompute());
  if (dp > 1) changes.push_back(ToStage(3));
  const int before = training.per_device_train_batch_size();
  for (int rows = before / 2; rows >= 1; rows /= 2) {
    if (before % rows != 0) continue;
    changes.push_back(Rows(rows, training.gradient_accumulation_steps() * (before / rows)));
  }
  for (int tp = 2 * parallel.tensor_model_parallel_size(); tp <= world_size; tp *= 2) {
    changes.push_back(TensorDegree(tp));
  }
  // What MakeRunPlan refuses to send to a disk.
  if (!run.optimizer.rules.RestrictsCuts() && !training.async_save()) {
    changes.push_back(StatesToDisk());
    changes.push_back(WeightsToDisk());
  }
  return changes;
}

class Proposal {
 public:
  Proposal(const RunPlan& run, int64_t peak, int world_size, int64_t limit)
      : run_(run), least_(peak), world_size_(world_size), limit_(limit) {}

  // One line for a person: the first few of the changes that together fit, less those that the
  // later ones made needless.
  std::string Text() {
    const std::vector<Change> possible = PossibleChanges(run_, world_size_);
    for (const Change& change : possible) {
      Changes tried = Without(chosen_, change.setting);
      tried.push_back(&change);
      if (!Improves(tried, least_ - 1) || least_ > limit_) continue;
      for (size_t i = chosen_.size() - 1; i-- > 0;) {
        Improves(Without(chosen_, chosen_[i]->setting), limit_);
      }
      return absl::StrCat("it would take ", GB(least_), " with ", ChosenText());
    }
    return absl::StrCat("no change of stage, recomputation, batch, tensor degree or disk offload ",
                        "makes it fit (", GB(least_), " at least); use more ranks");
  }

  static std::string GB(int64_t bytes) {
    return absl::StrFormat("%.3g GB", static_cast<double>(bytes) / 1e9);
  }

 private:
  static Changes Without(Changes changes, const std::string& setting) {
    std::erase_if(changes, [&](const Change* c) { return c->setting == setting; });
    return changes;
  }

  Choice With(const Changes& changes) const {
    Choice choice{.config = run_.config, .zero = run_.zero};
    for (const Change* change : changes) change->apply(choice);
    return choice;
  }

  // Takes `changes` if they go together with the run and their peak is at most `bytes`.
  bool Improves(const Changes& changes, int64_t bytes) {
    const absl::StatusOr<int64_t> peak = Peak(With(changes));
    if (!peak.ok() || *peak > bytes) return false;
    chosen_ = changes;
    least_ = *peak;
    return true;
  }

  absl::StatusOr<int64_t> Peak(Choice choice) const {
    // The file's values are in the configuration already; what weights do after a forward, in
    // `units`.
    const bool keeps = run_.config.training().reshard_after_forward() == "never";
    choice.config.mutable_training()->clear_deepspeed();
    choice.config.mutable_training()->clear_reshard_after_forward();
    ABSL_ASSIGN_OR_RETURN(RunPlan run, MakeRunPlan(choice.config, run_.task, world_size_));
    run.zero = choice.zero;
    run.units = run_.units;
    if (choice.zero.offload_param.device != OffloadDevice::kNone && !keeps) {
      run.units.reshard = Reshard::kAlways;
    }
    run.optimizer = run_.optimizer;
    run.optimizer.stage = choice.zero.stage;
    ABSL_ASSIGN_OR_RETURN(const MemoryPlan plan, PlanMemory(run, world_size_));
    return plan.peak();
  }

  // "a --deepspeed file with zero_optimization.stage 3 and --gradient_checkpointing".
  std::string ChosenText() const {
    const ZeroSettings zero = With(chosen_).zero;
    std::vector<std::string> file;
    if (zero.stage != run_.zero.stage) {
      file.push_back(absl::StrCat("zero_optimization.stage ", zero.stage));
    }
    if (zero.offload_optimizer.device != run_.zero.offload_optimizer.device) {
      file.push_back("zero_optimization.offload_optimizer.device \"nvme\"");
    }
    if (zero.offload_param.device != run_.zero.offload_param.device) {
      file.push_back("zero_optimization.offload_param.device \"nvme\", max_in_cpu 0");
    }
    std::vector<std::string> texts;
    if (!file.empty()) {
      texts.push_back(absl::StrCat("a --deepspeed file with ", absl::StrJoin(file, ", ")));
    }
    for (const Change* change : chosen_) {
      if (!change->flags.empty()) texts.push_back(change->flags);
    }
    return absl::StrJoin(texts, " and ");
  }

  const RunPlan& run_;
  Changes chosen_;
  int64_t least_;
  const int world_size_;
  const int64_t limit_;
};

}  // namespace

absl::Status CheckMemoryLimit(const RunPlan& run, const absl::StatusOr<MemoryPlan>& memory,
                              int world_size) {
  const TrainingArguments& a = run.config.training();
  if (!a.has_memory_limit()) return absl::OkStatus();
  ABSL_ASSIGN_OR_RETURN(const int64_t limit, ParseMemorySize(a.memory_limit()));
  ABSL_RETURN_IF_ERROR(memory.status());
  if (memory->peak() <= limit) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "this run takes ", Proposal::GB(memory->peak()), " a rank, --memory_limit is ",
      Proposal::GB(limit), ": ", Proposal(run, memory->peak(), world_size, limit).Text()));
}

}  // namespace lathe
