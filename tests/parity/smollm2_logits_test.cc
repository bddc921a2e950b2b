// A real model: the logits of SmolLM2-135M on the start of "Pride and Prejudice", against
// transformers (tests/goldens/parity/smollm2.json).
#include <cmath>
#include <cstdio>
#include <vector>

#include "ATen/core/grad_mode.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/full.h"
#include "ATen/ops/tensor.h"
#include "gtest/gtest.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/layers/block_runner.h"
#include "lathe/models/auto_model.h"
#include "lathe/models/model_config.h"
#include "lathe/models/pretrained.h"
#include "lathe/tests/parity/pretrain_run.h"

namespace lathe {
namespace {

TEST(SmolLm2LogitsTest, EqualTransformers) {
  const nlohmann::json golden = ReadJson("tests/goldens/parity/smollm2.json");
  ASSERT_TRUE(golden.is_object());
  const char folder[] = "third_party/smollm2/model";
  auto context = ParallelContext::SingleProcess();
  PlainRunner runner;
  const auto config = ReadModelConfig(folder);
  ASSERT_TRUE(config.ok()) << config.status();
  auto stage = BuildModel(*config, *context, at::kFloat, runner);
  ASSERT_TRUE(stage.ok()) << stage.status();
  const absl::Status loaded = LoadPretrained(folder, **stage);
  ASSERT_TRUE(loaded.ok()) << loaded;

  at::NoGradGuard no_grad;
  MicroBatch batch;
  batch.input_ids = at::tensor(golden["input_ids"].get<std::vector<int64_t>>()).view({1, -1});
  const int64_t tokens = batch.input_ids.size(1);
  const at::Tensor hidden = (*stage)->Forward(batch, {})[0];
  const at::Tensor logits = (*stage)->head()->Logits(hidden)[0];
  double worst = 0;
  for (const nlohmann::json& point : golden["points"]) {
    const double ours = logits[point[0].get<int64_t>()][point[1].get<int64_t>()].item().toDouble();
    const double apart = std::abs(ours - point[2].get<double>());
    // The bar of the project, for logits of up to 30; 30 layers of fp32 sums in another order.
    EXPECT_LT(apart, 1e-4) << point;
    worst = std::max(worst, apart);
  }
  std::printf("%zu logits, worst difference %.2g\n", golden["points"].size(), worst);

  const at::Tensor targets =
      at::cat({batch.input_ids.narrow(1, 1, tokens - 1), at::full({1, 1}, -100, at::kLong)}, 1);
  const at::Tensor weights = targets.ne(-100).to(at::kFloat).div(tokens - 1);
  const double nll =
      (*stage)->head()->WeightedCrossEntropy(hidden, targets, weights).item().toDouble();
  EXPECT_NEAR(nll, golden["mean_nll"].get<double>(), 1e-5);
  // Known from another conversion of the same model.
  EXPECT_NEAR(nll, 2.8048, 5e-5);
}

}  // namespace
}  // namespace lathe
