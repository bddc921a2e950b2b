// Against transformers, to the digit: logits, loss and every gradient of tiny random models of both
// families and every rotary kind (tests/goldens/models), plain and recomputed.
#include <memory>
#include <string>

#include "ATen/ops/cat.h"
#include "ATen/ops/full.h"
#include "ATen/ops/tensor.h"
#include "gtest/gtest.h"
#include "lathe/checkpoint/safetensors.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/block_runner.h"
#include "lathe/layers/gradient_sink.h"
#include "lathe/layers/relative_error.h"
#include "lathe/models/auto_model.h"
#include "lathe/models/model_config.h"
#include "lathe/models/pretrained.h"

namespace lathe {
namespace {

class LlamaStageTest : public testing::TestWithParam<const char*> {};

TEST_P(LlamaStageTest, EqualsTransformers) {
  const std::string folder = std::string("tests/goldens/models/") + GetParam();
  const auto golden = SafetensorsFile::Open(folder + "/golden.safetensors");
  ASSERT_TRUE(golden.ok()) << golden.status();
  const auto config = ReadModelConfig(folder);
  ASSERT_TRUE(config.ok()) << config.status();
  auto context = ParallelContext::SingleProcess();
  PlainRunner plain;
  RecomputeRunner recompute(plain);
  for (BlockRunner* runner :
       {static_cast<BlockRunner*>(&plain), static_cast<BlockRunner*>(&recompute)}) {
    MainGradSink sink;
    auto stage = BuildModel(*config, *context, at::kFloat, *runner);
    ASSERT_TRUE(stage.ok()) << stage.status();
    ASSERT_TRUE(LoadPretrained(folder, **stage).ok()) << LoadPretrained(folder, **stage);
    int64_t count = 0;
    for (Parameter* p : (*stage)->parameters()) {
      p->set_sink(&sink);
      count += p->tensor().numel();
    }
    EXPECT_EQ(count, CountParameters(*config));

    MicroBatch batch;
    batch.input_ids = *golden->Load("input_ids");
    const at::Tensor hidden = (*stage)->Forward(batch, /*chunk=*/0, {})[0];
    const at::Tensor logits = (*stage)->head()->Logits(hidden);
    // The bar of the project: 2e-5 absolute.
    EXPECT_LT(logits.sub(*golden->Load("logits")).abs().max().item().toDouble(), 2e-5);

    const int64_t rows = batch.input_ids.size(0), seq = batch.input_ids.size(1);
    const at::Tensor targets =
        at::cat({batch.input_ids.narrow(1, 1, seq - 1), at::full({rows, 1}, -100, at::kLong)}, 1);
    const at::Tensor weights = targets.ne(-100).to(at::kFloat).div(rows * (seq - 1));
    const at::Tensor loss = (*stage)->head()->WeightedCrossEntropy(hidden, targets, weights);
    EXPECT_NEAR(loss.item().toDouble(), (*golden->Load("loss")).item().toDouble(), 2e-6);
    RunBackward({loss}, {{}});
    for (Parameter* p : (*stage)->parameters()) {
      // fp32 sums in another order.
      EXPECT_LT(RelativeError(p->main_grad, *golden->Load("grad." + p->name()), 1e-5), 2e-4)
          << p->name();
      EXPECT_EQ(p->pending_uses(), 0) << p->name();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, LlamaStageTest,
                         testing::Values("llama_default", "llama_tied_bias_head_dim",
                                         "llama_linear", "llama_dynamic", "llama_llama3",
                                         "llama_yarn", "qwen2_default", "qwen2_tied",
                                         "qwen2_yarn_mscale", "qwen2_linear"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace lathe
