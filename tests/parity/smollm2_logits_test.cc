// A real model: the logits of SmolLM2-135M on the start of "Pride and Prejudice", against
// transformers (tests/goldens/parity/smollm2.json), and over tensor ranks.
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <vector>

#include "ATen/core/grad_mode.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/full.h"
#include "ATen/ops/tensor.h"
#include "gtest/gtest.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/layers/block_runner.h"
#include "lathe/layers/relative_error.h"
#include "lathe/models/auto_model.h"
#include "lathe/models/model_config.h"
#include "lathe/models/pretrained.h"
#include "lathe/tests/parity/pretrain_run.h"

namespace lathe {
namespace {

constexpr char kFolder[] = "third_party/smollm2/model";

// The model on the golden file's first tokens.
struct Output {
  at::Tensor logits;  // [tokens, vocabulary]
  double mean_nll = 0;
};

Output Evaluate(const ParallelContext& context, const nlohmann::json& golden, int64_t tokens,
                const StageOptions& options = {}) {
  PlainRunner runner;
  const auto config = ReadModelConfig(kFolder);
  if (!config.ok()) throw std::runtime_error(config.status().ToString());
  auto stage = BuildModel(*config, context, at::kFloat, runner, options);
  if (!stage.ok()) throw std::runtime_error(stage.status().ToString());
  const absl::Status loaded = LoadPretrained(kFolder, **stage);
  if (!loaded.ok()) throw std::runtime_error(loaded.ToString());

  at::NoGradGuard no_grad;
  MicroBatch batch;
  batch.input_ids =
      at::tensor(golden["input_ids"].get<std::vector<int64_t>>()).narrow(0, 0, tokens);
  batch.input_ids = batch.input_ids.view({1, tokens});
  const at::Tensor hidden = (*stage)->Forward(batch, /*chunk=*/0, {})[0];
  const at::Tensor targets =
      at::cat({batch.input_ids.narrow(1, 1, tokens - 1), at::full({1, 1}, -100, at::kLong)}, 1);
  const at::Tensor weights = targets.ne(-100).to(at::kFloat).div(tokens - 1);
  OutputHead& head = *(*stage)->head();
  return {head.Logits(hidden)[0],
          head.WeightedCrossEntropy(hidden, targets, weights).item().toDouble()};
}

TEST(SmolLm2LogitsTest, EqualTransformers) {
  const nlohmann::json golden = ReadJson("tests/goldens/parity/smollm2.json");
  ASSERT_TRUE(golden.is_object());
  const Output output = Evaluate(*ParallelContext::SingleProcess(), golden,
                                 static_cast<int64_t>(golden["input_ids"].size()));
  double worst = 0;
  for (const nlohmann::json& point : golden["points"]) {
    const double ours =
        output.logits[point[0].get<int64_t>()][point[1].get<int64_t>()].item().toDouble();
    const double apart = std::abs(ours - point[2].get<double>());
    // The bar of the project, for logits of up to 30; 30 layers of fp32 sums in another order.
    EXPECT_LT(apart, 1e-4) << point;
    worst = std::max(worst, apart);
  }
  std::printf("%zu logits, worst difference %.2g\n", golden["points"].size(), worst);
  EXPECT_NEAR(output.mean_nll, golden["mean_nll"].get<double>(), 1e-5);
  // Known from another conversion of the same model.
  EXPECT_NEAR(output.mean_nll, 2.8048, 5e-5);
}

// 9 heads and 3 KV heads over 3 tensor ranks.
TEST(SmolLm2LogitsTest, ThreeTensorRanksEqualOneProcess) {
  const nlohmann::json golden = ReadJson("tests/goldens/parity/smollm2.json");
  ASSERT_TRUE(golden.is_object());
  constexpr int64_t kTokens = 510;  // three parts
  const Output one = Evaluate(*ParallelContext::SingleProcess(), golden, kTokens);
  for (bool sequence_parallel : {false, true}) {
    RunThreadRanks(*ProcessMesh::Create({{"tp", 3}}), [&](const ParallelContext& context) {
      const Output mine =
          Evaluate(context, golden, kTokens, {.sequence_parallel = sequence_parallel});
      if (context.rank() != 0) return;
      const double logits = RelativeError(mine.logits, one.logits);
      EXPECT_LT(logits, 1e-5);
      EXPECT_NEAR(mine.mean_nll, one.mean_nll, 1e-5);
      std::printf("3 ranks: logits apart by %.2g, loss by %.2g\n", logits,
                  std::abs(mine.mean_nll - one.mean_nll));
    });
  }
}

}  // namespace
}  // namespace lathe
