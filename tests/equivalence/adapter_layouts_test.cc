// A LoRA adapter is the same however the model around it is laid out: split over tensor ranks, cut
// into pipeline stages, with data-parallel ranks and any ZeRO stage, recomputed or not, dropout
// included. In fp64, through the real Trainer.
#include <cstdio>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/peft/lora/lora_config.h"
#include "lathe/tests/equivalence/small_training.h"

namespace lathe {
namespace {

// Sums in another order, as in micro_batches_and_ranks_test.cc.
void ExpectEqual(const Outcome& a, const Outcome& b, const std::string& what) {
  const Differences d = Difference(a, b);
  EXPECT_LT(d.losses, 1e-12) << what;
  EXPECT_LT(d.grad_norms, 1e-12) << what;
  EXPECT_LT(d.gradients, 1e-12) << what;
  EXPECT_LT(d.weights, 1e-12) << what;
  std::printf("%s: losses %.2g, norms %.2g, gradients %.2g, weights %.2g\n", what.c_str(), d.losses,
              d.grad_norms, d.gradients, d.weights);
}

struct Layout {
  std::string name;
  int tp = 1, dp = 1, pp = 1;
  int zero_stage = 0;
  bool sequence_parallel = false, recompute = false, recompute_mlp = false;
};

const std::vector<Layout>& Layouts() {
  static const auto& layouts = *new std::vector<Layout>{
      {.name = "recomputed", .recompute = true},
      {.name = "mlp recomputed", .recompute_mlp = true},
      {.name = "dp 2", .dp = 2},
      {.name = "dp 4, stage 1", .dp = 4, .zero_stage = 1},
      {.name = "dp 2, stage 2", .dp = 2, .zero_stage = 2},
      {.name = "dp 2, stage 3", .dp = 2, .zero_stage = 3, .recompute = true},
      {.name = "tp 2", .tp = 2},
      // Each of the two KV heads is on two ranks.
      {.name = "tp 4, sequence", .tp = 4, .sequence_parallel = true},
      {.name = "pp 2", .pp = 2},
      {.name = "tp 2, pp 2, sequence", .tp = 2, .pp = 2, .sequence_parallel = true},
      {.name = "tp 2, dp 2, stage 3", .tp = 2, .dp = 2, .zero_stage = 3},
      {.name = "dp 2, pp 2, stage 1", .dp = 2, .pp = 2, .zero_stage = 1},
  };
  return layouts;
}

LoraConfig Targets(const std::vector<std::string>& names) {
  LoraConfig config{.r = 4, .alpha = 16};
  config.targets.target_modules.names = names;
  return config;
}

const std::map<std::string, SmallTraining>& Cases() {
  static const auto& cases = *new std::map<std::string, SmallTraining>([] {
    std::map<std::string, SmallTraining> made;
    made["qkv_dropout"] = {.model = "qwen2", .lora = Targets({"q_proj", "k_proj", "v_proj"})};
    made["qkv_dropout"].lora->dropout = 0.2;
    made["all_linear"] = {.model = "llama", .lora = LoraConfig{.r = 3, .alpha = 5}};
    made["all_linear"].lora->all_linear = true;
    made["all_linear"].lora->use_rslora = true;
    made["all_linear"].lora->bias = LoraBias::kAll;
    made["all_linear"].lora->dropout = 0.1;
    made["saved_head"] = {.model = "llama", .lora = Targets({"o_proj", "down_proj"})};
    made["saved_head"].lora->targets.modules_to_save = {"lm_head"};
    // The first pipeline stage has nothing to train.
    made["last_layer"] = {.model = "qwen2", .lora = Targets({"v_proj", "up_proj"})};
    made["last_layer"].lora->targets.layers_to_transform = {1};
    return made;
  }());
  return cases;
}

class AdapterLayoutsTest : public testing::TestWithParam<const char*> {};

TEST_P(AdapterLayoutsTest, EqualsOneProcess) {
  const SmallTraining whole = Cases().at(GetParam());
  const Outcome one = TrainSmall(*ParallelContext::SingleProcess(), whole);
  EXPECT_NE(one.losses.back(), one.losses.front());
  for (const Layout& layout : Layouts()) {
    SmallTraining parts = whole;
    parts.accumulation = 2;
    parts.batch_size = 8 / layout.dp / parts.accumulation;
    parts.zero_stage = layout.zero_stage;
    parts.sequence_parallel = layout.sequence_parallel;
    parts.recompute = layout.recompute;
    parts.recompute_mlp = layout.recompute_mlp;
    std::mutex one_prints;
    RunThreadRanks(*ProcessMesh::Create({{"tp", layout.tp}, {"dp", layout.dp}, {"pp", layout.pp}}),
                   [&](const ParallelContext& rank) {
                     const Outcome mine = TrainSmall(rank, parts);
                     std::lock_guard<std::mutex> lock(one_prints);
                     ExpectEqual(mine, one, layout.name);
                   });
  }
}

// A test of the test: another draw of the dropout is noticed.
TEST(AdapterDropoutTest, Matters) {
  const SmallTraining with = Cases().at("qkv_dropout");
  SmallTraining without = with;
  without.lora->dropout = 0;
  const auto context = ParallelContext::SingleProcess();
  EXPECT_GT(Difference(TrainSmall(*context, with), TrainSmall(*context, without)).losses, 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Adapters, AdapterLayoutsTest,
                         testing::Values("qkv_dropout", "all_linear", "saved_head", "last_layer"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace lathe
