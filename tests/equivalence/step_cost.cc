#include "lathe/tests/equivalence/step_cost.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "ATen/ops/arange.h"
#include "ATen/ops/full.h"
#include "ATen/ops/mul.h"
#include "absl/status/statusor.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/block_runner.h"
#include "lathe/layers/memory_meter.h"
#include "lathe/models/auto_model.h"
#include "lathe/models/model_config.h"
#include "lathe/pipeline_parallel/partition.h"
#include "lathe/pipeline_parallel/schedule.h"
#include "lathe/zero/unit_runner.h"
#include "lathe/zero/zero_optimizer.h"
#include "lathe/zero/zero_units.h"

namespace lathe {
namespace {

template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().ToString());
  return *std::move(value);
}

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class MeasuredStage : public ScheduledStage {
 public:
  // `tokens`: of a micro batch.
  MeasuredStage(Stage& stage, ZeroOptimizer& optimizer, int64_t tokens)
      : stage_(stage), optimizer_(optimizer) {
    batch_.input_ids =
        at::arange(0, tokens, at::kLong).mul(37).remainder(stage.config().vocab_size);
    batch_.input_ids = batch_.input_ids.view({-1, std::min<int64_t>(512, tokens)});
    weights_ = at::full(batch_.input_ids.sizes(), 1.0 / kStepCostTokens, at::kDouble);
  }
  void Begin(int micro_batch, bool last) override { optimizer_.BeginMicroBatch(micro_batch, last); }
  int64_t NumSamples(int) const override { return batch_.input_ids.size(0); }
  TensorList Forward(int, int chunk, const TensorList& activations) override {
    return stage_.Forward(batch_, chunk, activations);
  }
  at::Tensor Loss(int, const TensorList& activations) override {
    return stage_.head()->WeightedCrossEntropy(activations[0], batch_.input_ids, weights_);
  }

  const MicroBatch& batch() const { return batch_; }

 private:
  Stage& stage_;
  ZeroOptimizer& optimizer_;
  MicroBatch batch_;
  at::Tensor weights_;
};

// The same stage as if it were the whole model: it makes up the activations that it would receive,
// and a loss of those that it would send.
class LonelyStage : public MeasuredStage {
 public:
  LonelyStage(Stage& stage, ZeroOptimizer& optimizer, int64_t tokens, bool is_first)
      : MeasuredStage(stage, optimizer, tokens),
        has_head_(stage.head() != nullptr),
        is_first_(is_first),
        shape_(batch().input_ids.sizes().vec()) {
    shape_.push_back(stage.config().hidden_size);
  }
  TensorList Forward(int i, int chunk, const TensorList&) override {
    if (is_first_) return MeasuredStage::Forward(i, chunk, {});
    return MeasuredStage::Forward(i, chunk, {at::full(shape_, 0.1).set_requires_grad(true)});
  }
  at::Tensor Loss(int i, const TensorList& activations) override {
    if (has_head_) return MeasuredStage::Loss(i, activations);
    return at::mul(activations[0], at::full(shape_, 1e-3)).sum();
  }

 private:
  const bool has_head_, is_first_;
  std::vector<int64_t> shape_;
};

}  // namespace

StepCost MeasureSteps(const ParallelContext& context, StageOptions options, int num_updates,
                      int num_micro_batches, int zero_stage) {
  const ModelConfig config = Must(ParseModelConfig(
      R"({"model_type": "llama", "vocab_size": 8192, "hidden_size": 512, "intermediate_size": 1408,
          "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 4,
          "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "hidden_act": "silu"})",
      "config.json"));
  const LayerFlops flops = FlopsPerToken(config, 512);
  options.boundaries = Must(PartitionLayers({.num_blocks = 8,
                                             .block_cost = flops.block,
                                             .head_cost = flops.head,
                                             .num_ranks = context.mesh().size("pp")}))
                           .boundaries;
  PlainRunner plain;
  ZeroUnits units({});
  UnitRunner runner(units, plain);
  options.allocates = false;  // the optimizer does
  const int64_t before = MemoryMeter::current_bytes();
  const auto stage = Must(BuildModel(config, context, at::kFloat, runner, options));
  ZeroOptimizer optimizer(stage->parameters(), {.stage = zero_stage}, context, &units);
  // Values cost nothing more or less.
  optimizer.FillMasters([](Parameter&, const at::Tensor& master) { master.fill_(0.01); });
  optimizer.AfterLoad();

  const int64_t tokens = kStepCostTokens / num_micro_batches / context.mesh().size("dp");
  MeasuredStage measured(*stage, optimizer, tokens);
  const Pipeline pipeline{.group = &context.Group({"pp"})};
  double schedule_seconds = 0;
  const auto forward_backward = [&](ScheduledStage& scheduled, const Pipeline& along) {
    optimizer.BeginUpdate();
    const double start = Now();
    ForwardBackward(scheduled, num_micro_batches, along);
    schedule_seconds += Now() - start;
  };
  const auto update = [&] {
    forward_backward(measured, pipeline);
    optimizer.FinishGradients();
    optimizer.Step(1e-4);
  };
  update();
  context.World().Barrier();
  // Every rank is between updates; one of them forgets what starting took.
  if (context.rank() == 0) MemoryMeter::ResetPeak();
  context.World().Barrier();
  schedule_seconds = 0;
  const double start = Now();
  for (int i = 0; i < num_updates; ++i) update();
  context.World().Barrier();
  StepCost cost{.seconds = (Now() - start) / num_updates,
                .schedule_seconds = schedule_seconds / num_updates,
                .peak_bytes = MemoryMeter::peak_bytes() - before};
  LonelyStage lonely(*stage, optimizer, tokens, context.Group({"pp"}).rank() == 0);
  schedule_seconds = 0;
  for (int i = 0; i < num_updates; ++i) forward_backward(lonely, {});
  context.World().Barrier();
  cost.stage_seconds = schedule_seconds / num_updates;
  return cost;
}

}  // namespace lathe
