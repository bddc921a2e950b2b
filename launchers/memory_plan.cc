#include "lathe/launchers/memory_plan.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <utility>

#include "ATen/ops/empty.h"
#include "absl/status/status_macros.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "lathe/comm/rehearsal_backend.h"
#include "lathe/launchers/task_builders.h"
#include "lathe/layers/block_runner.h"
#include "lathe/layers/meta_meter.h"
#include "lathe/layers/precision.h"
#include "lathe/models/stage.h"
#include "lathe/pipeline_parallel/schedule.h"
#include "lathe/trainer/bound_stage.h"
#include "lathe/trainer/causal_lm_loss.h"
#include "lathe/trainer/training_arguments.h"
#include "lathe/zero/unit_runner.h"
#include "lathe/zero/zero_optimizer.h"

namespace lathe {
namespace {

// The largest of several stretches of time, of which the meter keeps one peak each.
class Peaks {
 public:
  // Ends a stretch and begins the next; returns the peak of the one that ended.
  int64_t Next() {
    const int64_t last = MetaMeter::peak_bytes();
    all_ = std::max(all_, last);
    MetaMeter::ResetPeak();
    return last;
  }
  int64_t all() const { return all_; }

 private:
  int64_t all_ = 0;
};

// A stage, noting what micro batches in flight keep after a forward, and what the head and the loss
// take on top of that.
class MeteredStage : public ScheduledStage {
 public:
  // `kept`: by weights and states.
  MeteredStage(ScheduledStage& stage, const ZeroUnits& units, int64_t kept, Peaks& peaks,
               RankMemory& memory)
      : stage_(stage), units_(units), kept_(kept), peaks_(peaks), memory_(memory) {}

  void Begin(int micro_batch, bool last) override { stage_.Begin(micro_batch, last); }
  int64_t NumSamples(int micro_batch) const override { return stage_.NumSamples(micro_batch); }
  TensorList Forward(int micro_batch, int chunk, const TensorList& activations) override {
    TensorList outputs = stage_.Forward(micro_batch, chunk, activations);
    memory_.activations =
        std::max(memory_.activations, MetaMeter::current_bytes() - kept_ - units_.live_bytes());
    return outputs;
  }
  at::Tensor Loss(int micro_batch, const TensorList& activations) override {
    peaks_.Next();
    const int64_t before = MetaMeter::current_bytes();
    at::Tensor loss = stage_.Loss(micro_batch, activations);
    memory_.head_and_loss = std::max(memory_.head_and_loss, peaks_.Next() - before);
    return loss;
  }

 private:
  ScheduledStage& stage_;
  const ZeroUnits& units_;
  const int64_t kept_;
  Peaks& peaks_;
  RankMemory& memory_;
};

// Where a rehearsal cannot look: every label counts.
class RehearsedLoss : public CausalLmLoss {
 public:
  double Weight(const MicroBatch&) const override { return 1; }
};

std::vector<MicroBatch> Batches(int64_t count, int64_t rows, int64_t tokens) {
  const at::TensorOptions integers = at::TensorOptions(at::kMeta).dtype(at::kLong);
  std::vector<MicroBatch> batches;
  for (int64_t i = 0; i < count; ++i) {
    batches.push_back({at::empty({rows, tokens}, integers), at::empty({rows, tokens}, integers)});
  }
  return batches;
}

// More micro batches than this do not take more but their integers: as many as can be in flight,
// and some to come and go.
int64_t MicroBatchesToRehearse(const RunPlan& run, int64_t count) {
  const int64_t pp = run.config.parallel().pipeline_model_parallel_size();
  if (run.pipeline.schedule == ScheduleKind::kGPipe) return count;
  return std::min(count, 3 * pp * run.pipeline.partition.num_chunks + pp % 2);
}

// What offload sends to a disk is rehearsed in memory and taken off again. `bytes_in_memory`: of
// weights that stay.
void TakeOffDisk(const RunPlan& run, int64_t bytes_in_memory, RankMemory* memory) {
  int64_t away = 0;
  if (run.zero.offload_optimizer.device == OffloadDevice::kNvme) {
    away += memory->masters + memory->optimizer_state;
    memory->masters = memory->optimizer_state = 0;
  }
  if (run.zero.offload_param.device == OffloadDevice::kNvme) {
    away += memory->parameters - bytes_in_memory;
    memory->parameters = bytes_in_memory;
  }
  memory->peak -= away;
}

// The initial values' passing: a weight at a time, and its draws.
void RehearseFilling(ZeroOptimizer& optimizer) {
  optimizer.FillMasters([](Parameter& parameter, const at::Tensor& values) {
    for (const ShardPiece& piece : parameter.shard().pieces) {
      at::empty(piece.logical.length, values.options().dtype(UpcastType(values.scalar_type())));
    }
  });
  optimizer.AfterLoad();
}

class Rehearsal {
 public:
  Rehearsal(const RunPlan& run, int world_size) : run_(run), world_size_(world_size) {}

  absl::StatusOr<RankMemory> Rank(int pp_rank, std::deque<at::Tensor>& mail) const {
    const ParallelArguments& parallel = run_.config.parallel();
    const int tp = parallel.tensor_model_parallel_size();
    const int pp = parallel.pipeline_model_parallel_size();
    const int dp = world_size_ / (tp * pp);
    ABSL_ASSIGN_OR_RETURN(ProcessMesh mesh,
                          ProcessMesh::Create({{"tp", tp}, {"dp", dp}, {"pp", pp}}));
    ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<ParallelContext> context,
                          ParallelContext::Create(std::move(mesh), /*rank=*/pp_rank * tp * dp,
                                                  RehearseRanks(mail), c10::Device(at::kMeta)));
    RankMemory memory;
    const int64_t before = MetaMeter::current_bytes();
    MetaMeter::ResetPeak();
    ABSL_RETURN_IF_ERROR(Run(*context, before, &memory));
    return memory;
  }

 private:
  absl::Status Run(const ParallelContext& context, int64_t before, RankMemory* memory) const {
    Peaks peaks;
    PlainRunner plain;
    RecomputeRunner recompute(plain, WhatIsRecomputed(run_.config.training()).num_layers);
    ZeroUnits units(run_.units);
    UnitRunner runner(units, recompute);
    ABSL_ASSIGN_OR_RETURN(const Model model,
                          BuildStage(run_.config, run_.model, context, runner,
                                     run_.pipeline.partition, run_.task.adapter));
    ZeroOptions options = run_.optimizer;
    // Even a single rank's weights are then only whole while they are used.
    options.offload_weights.to_host = run_.zero.offload_param.device != OffloadDevice::kNone;
    options.offload_weights.elements_in_memory = run_.zero.offload_param.max_in_cpu;
    ZeroOptimizer optimizer(model.stage->parameters(), options, context, &units);
    const ZeroOptimizer::KeptBytes kept = optimizer.kept_bytes();
    memory->parameters = kept.weights;
    memory->gradients = kept.gradients;
    memory->masters = kept.masters;
    memory->optimizer_state = kept.states;
    MetaMeter::ResetPeak();
    RehearseFilling(optimizer);
    peaks.Next();
    Train(context, *model.stage, optimizer, units, peaks, memory);
    if (run_.config.training().do_eval() || run_.config.training().eval_strategy() != "no") {
      Evaluate(context, *model.stage, optimizer, peaks);
    }
    memory->peak = peaks.all() - before;
    const int64_t kept_bytes =
        memory->parameters + memory->gradients + memory->masters + memory->optimizer_state;
    memory->buckets_and_products =
        std::max<int64_t>(0, memory->peak - kept_bytes - memory->activations);
    const int64_t element_size = model.stage->parameters()[0]->tensor().element_size();
    TakeOffDisk(run_, optimizer.weights_in_memory() * element_size, memory);
    return absl::OkStatus();
  }

  void Train(const ParallelContext& context, Stage& stage, ZeroOptimizer& optimizer,
             const ZeroUnits& units, Peaks& peaks, RankMemory* memory) const {
    const TrainingArguments& a = run_.config.training();
    const int64_t kept = MetaMeter::current_bytes();
    const int64_t count = MicroBatchesToRehearse(run_, a.gradient_accumulation_steps());
    const std::vector<MicroBatch> batches = Batches(
        a.gradient_accumulation_steps(), a.per_device_train_batch_size(), run_.task.seq_len);
    const RehearsedLoss loss;
    Pipeline pipeline{.group = &context.Group({"pp"}),
                      .schedule = run_.pipeline.schedule,
                      .num_chunks = run_.pipeline.partition.num_chunks,
                      .device = context.device()};
    DeferringSink deferred(optimizer.sink());
    if (pipeline.schedule == ScheduleKind::kZeroBubbleH1) {
      pipeline.deferred = &deferred;
      for (Parameter* parameter : stage.parameters()) {
        if (parameter->trainable()) parameter->set_sink(&deferred);
      }
    }
    // The first update learns the order of gathers, the second prefetches by it.
    for (int update = 0; update < 2; ++update) {
      optimizer.BeginUpdate();
      BoundStage bound(stage, loss, optimizer, batches, std::vector<double>(batches.size(), 1.0));
      MeteredStage metered(bound, units, kept, peaks, *memory);
      ForwardBackward(metered, static_cast<int>(count), pipeline);
      optimizer.FinishGradients();
      optimizer.Step(/*learning_rate=*/0);
    }
    peaks.Next();
  }

  void Evaluate(const ParallelContext& context, Stage& stage, ZeroOptimizer& optimizer,
                Peaks& peaks) const {
    const int pp = context.mesh().size("pp");
    const std::vector<MicroBatch> batches =
        Batches(pp == 1 ? 1 : 4 * pp, run_.config.training().per_device_eval_batch_size(),
                run_.task.seq_len);
    const RehearsedLoss loss;
    BoundStage bound(stage, loss, optimizer, batches, std::vector<double>(batches.size(), 1.0));
    const Pipeline pipeline{.group = &context.Group({"pp"}),
                            .schedule = run_.pipeline.schedule,
                            .num_chunks = run_.pipeline.partition.num_chunks,
                            .device = context.device()};
    ForwardOnly(bound, static_cast<int>(batches.size()), pipeline, [](int, double) {});
    peaks.Next();
  }

  const RunPlan& run_;
  const int world_size_;
};

}  // namespace

int64_t MemoryPlan::peak() const {
  int64_t most = 0;
  for (const RankMemory& rank : stages) most = std::max(most, rank.peak);
  return most;
}

std::string MemoryPlan::Table() const {
  std::string table =
      absl::StrFormat("%-6s%12s%12s%12s%12s%13s%12s%12s%12s\n", "stage", "parameters", "gradients",
                      "masters", "optimizer", "activations", "head, loss", "passing", "peak MB");
  for (size_t stage = 0; stage < stages.size(); ++stage) {
    const RankMemory& m = stages[stage];
    const auto mega = [](int64_t bytes) { return static_cast<double>(bytes) / 1e6; };
    absl::StrAppendFormat(&table, "%-6d%12.1f%12.1f%12.1f%12.1f%13.1f%12.1f%12.1f%12.1f\n", stage,
                          mega(m.parameters), mega(m.gradients), mega(m.masters),
                          mega(m.optimizer_state), mega(m.activations), mega(m.head_and_loss),
                          mega(m.buckets_and_products), mega(m.peak));
  }
  return table;
}

absl::StatusOr<MemoryPlan> PlanMemory(const RunPlan& run, int world_size) {
  MetaMeter::Install();
  MemoryPlan plan;
  // What a pipeline's stage says to the next.
  std::deque<at::Tensor> mail;
  const Rehearsal rehearsal(run, world_size);
  try {
    for (int pp = 0; pp < run.config.parallel().pipeline_model_parallel_size(); ++pp) {
      ABSL_ASSIGN_OR_RETURN(plan.stages.emplace_back(), rehearsal.Rank(pp, mail));
    }
  } catch (const c10::Error& error) {
    return absl::InternalError(
        absl::StrCat("memory cannot be predicted: ", error.what_without_backtrace()));
  }
  return plan;
}

absl::StatusOr<int64_t> ParseMemorySize(std::string_view text) {
  static constexpr std::pair<const char*, double> kUnits[] = {
      {"KIB", 0x1p10}, {"MIB", 0x1p20}, {"GIB", 0x1p30}, {"TIB", 0x1p40}, {"KB", 1e3},
      {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12},    {"B", 1}};
  const std::string upper = absl::AsciiStrToUpper(absl::StripAsciiWhitespace(text));
  std::string_view number = upper;
  double unit = 1;
  for (const auto& [name, bytes] : kUnits) {
    if (!absl::ConsumeSuffix(&number, name)) continue;
    unit = bytes;
    break;
  }
  double value = 0;
  if (!absl::SimpleAtod(absl::StripAsciiWhitespace(number), &value) || !(value > 0) ||
      value * unit > 1e18) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--memory_limit ", text, " is no size; give a number of bytes, or 8GB, 7.5GiB, 500MB"));
  }
  return static_cast<int64_t>(value * unit);
}

}  // namespace lathe
