// --gradient_checkpointing and the --recompute_ flags compute the same numbers again: the training
// is equal to the bit.
#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/tests/equivalence/small_training.h"
#include "lathe/tests/parity/pretrain_run.h"

namespace lathe {
namespace {

void ExpectIdentical(const Outcome& a, const Outcome& b) {
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.grad_norms, b.grad_norms);
  const Differences d = Difference(a, b);
  EXPECT_EQ(d.gradients, 0);
  EXPECT_EQ(d.weights, 0);
}

TEST(GradientCheckpointingTest, IsEqualToTheBit) {
  auto context = ParallelContext::SingleProcess();
  for (at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    for (const char* model : {"qwen2", "llama"}) {
      SmallTraining training{.model = model, .dtype = dtype, .batch_size = 4, .accumulation = 2};
      const Outcome plain = TrainSmall(*context, training);
      training.recompute_mlp = true;
      ExpectIdentical(TrainSmall(*context, training), plain);
      training.recompute = true;
      training.recompute_mlp = false;
      ExpectIdentical(TrainSmall(*context, training), plain);
    }
  }
}

// Gradients become ready in the same order, or the ranks' reductions would not match.
TEST(GradientCheckpointingTest, IsEqualToTheBitOnRanks) {
  RunThreadRanks(*ProcessMesh::Create({{"dp", 2}}), [](const ParallelContext& context) {
    SmallTraining training{.dtype = at::kFloat, .batch_size = 2, .accumulation = 2};
    const Outcome plain = TrainSmall(context, training);
    training.recompute = true;
    ExpectIdentical(TrainSmall(context, training), plain);
  });
}

TEST(GradientCheckpointingTest, IsEqualToTheBitByItsFlags) {
  std::vector<std::string> flags = GoldenFlags("qwen2");
  for (const char* flag : {"--block_size", "32", "--max_steps", "5", "--learning_rate", "3e-3",
                           "--gradient_accumulation_steps", "2", "--per_device_train_batch_size",
                           "2", "--logging_steps", "1", "--save_strategy", "no"}) {
    flags.push_back(flag);
  }
  const PretrainRun plain = RunPretrain("plain", flags);
  ASSERT_EQ(plain.exit_code, 0) << plain.output;
  const auto weights = ReadWeights(plain.folder + "/model.safetensors");
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{"--gradient_checkpointing"},
        {"--recompute_granularity", "full", "--recompute_method", "block", "--recompute_num_layers",
         "1"},
        {"--recompute_granularity", "selective", "--recompute_modules", "core_attn,mlp"}}) {
    std::vector<std::string> all = flags;
    all.insert(all.end(), more.begin(), more.end());
    const PretrainRun recomputed = RunPretrain("recomputed", all);
    ASSERT_EQ(recomputed.exit_code, 0) << recomputed.output;
    EXPECT_EQ(History(recomputed, "loss"), History(plain, "loss"));
    EXPECT_EQ(History(recomputed, "grad_norm"), History(plain, "grad_norm"));
    for (const auto& [name, tensor] : ReadWeights(recomputed.folder + "/model.safetensors")) {
      EXPECT_TRUE(tensor.equal(weights.at(name))) << name;
    }
  }
}

}  // namespace
}  // namespace lathe
