#include "lathe/tests/equivalence/step_cost.h"

#include <chrono>
#include <memory>
#include <stdexcept>

#include "ATen/ops/arange.h"
#include "ATen/ops/full.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/block_runner.h"
#include "lathe/layers/memory_meter.h"
#include "lathe/models/auto_model.h"
#include "lathe/models/model_config.h"
#include "lathe/zero/zero_optimizer.h"

namespace lathe {

StepCost MeasureSteps(const ParallelContext& context, const StageOptions& options,
                      int num_updates) {
  const auto config = ParseModelConfig(
      R"({"model_type": "llama", "vocab_size": 8192, "hidden_size": 512, "intermediate_size": 1408,
          "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 4,
          "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "hidden_act": "silu"})",
      "config.json");
  if (!config.ok()) throw std::runtime_error(config.status().ToString());
  PlainRunner runner;
  const int64_t before = MemoryMeter::current_bytes();
  auto stage = BuildModel(*config, context, at::kFloat, runner, options);
  if (!stage.ok()) throw std::runtime_error(stage.status().ToString());
  ZeroOptimizer optimizer((*stage)->parameters(), {}, context);
  // Values cost nothing more or less.
  optimizer.ForEachMaster([](Parameter&, const at::Tensor& master) { master.fill_(0.01); });
  optimizer.AfterLoad();

  MicroBatch batch;
  batch.input_ids = at::arange(0, kStepCostTokens, at::kLong).mul(37).remainder(config->vocab_size);
  batch.input_ids = batch.input_ids.view({-1, 512});
  const at::Tensor weights = at::full(batch.input_ids.sizes(), 1.0 / kStepCostTokens, at::kDouble);
  const auto update = [&] {
    optimizer.BeginUpdate();
    optimizer.BeginMicroBatch(/*last=*/true);
    const at::Tensor hidden = (*stage)->Forward(batch, {})[0];
    const at::Tensor loss =
        (*stage)->head()->WeightedCrossEntropy(hidden, batch.input_ids, weights);
    RunBackward({loss}, {{}});
    optimizer.FinishGradients();
    optimizer.Step(1e-4);
  };
  update();
  context.World().Barrier();
  // Every rank is between updates; one of them forgets what starting took.
  if (context.rank() == 0) MemoryMeter::ResetPeak();
  context.World().Barrier();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < num_updates; ++i) update();
  context.World().Barrier();
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
  return {.seconds = passed.count() / num_updates,
          .peak_bytes = MemoryMeter::peak_bytes() - before};
}

}  // namespace lathe
