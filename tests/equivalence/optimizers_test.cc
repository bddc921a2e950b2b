// Every optimizer under every ZeRO stage: the bits of stage 0 on the same ranks, one process's
// training, and checkpoints that any layout goes on from, but no other optimizer.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "ATen/ops/equal.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/tests/equivalence/small_training.h"
#include "lathe/zero/optim_by_name.h"

namespace lathe {
namespace {

struct Optimizer {
  const char* name;
  const char* optim;
  const char* args = "";
  double learning_rate = 5e-3;
  // Each element by itself, so that tensor ranks may each step a slice.
  bool elementwise = true;
  // What rounding does to its weights stays rounding: no states of few bits, which round up on one
  // layout and down on another.
  bool continuous = true;
};
constexpr Optimizer kOptimizers[] = {
    {"adam", "adam"},
    {"sgd", "sgd", "", 0.5},
    {"momentum", "sgd", "momentum=0.9,dampening=0.1", 0.1},
    {"nesterov", "sgd", "momentum=0.9,nesterov=true", 0.1},
    {"lion", "lion_32bit"},
    {"adamw_bf16", "adamw_torch", "state_dtype=bf16", 5e-3, true, /*continuous=*/false},
    {"adamw_8bit", "adamw_8bit", "", 5e-3, /*elementwise=*/false, /*continuous=*/false},
    {"lion_8bit", "lion_8bit", "", 5e-3, /*elementwise=*/false, /*continuous=*/false},
    {"muon", "muon", "", 2e-2, /*elementwise=*/false},
    {"adafactor", "adafactor", "", 5e-3, /*elementwise=*/false},
};

struct Ranks {
  const char* name;
  int dp = 1, tp = 1, pp = 1;
};
constexpr Ranks kRanks[] = {
    {"one"}, {"dp2", 2}, {"dp4", 4}, {"dp2_tp2", 2, 2, 1}, {"dp2_pp2", 2, 1, 2}};

std::vector<Outcome> Train(const Ranks& ranks, const SmallTraining& training) {
  std::vector<Outcome> outcomes(ranks.dp * ranks.tp * ranks.pp);
  RunThreadRanks(*ProcessMesh::Create({{"tp", ranks.tp}, {"dp", ranks.dp}, {"pp", ranks.pp}}),
                 [&](const ParallelContext& context) {
                   outcomes[context.rank()] = TrainSmall(context, training);
                 });
  return outcomes;
}

// Whether all ranks have the same losses and weights to the bit.
void ExpectSameBits(const std::vector<Outcome>& a, const std::vector<Outcome>& b) {
  for (size_t rank = 0; rank < a.size(); ++rank) {
    EXPECT_EQ(a[rank].losses, b[rank].losses);
    EXPECT_EQ(a[rank].grad_norms, b[rank].grad_norms);
    EXPECT_EQ(a[rank].eval_loss, b[rank].eval_loss);
    ASSERT_EQ(a[rank].weights.size(), b[rank].weights.size());
    for (const auto& [name, pieces] : a[rank].weights) {
      for (size_t i = 0; i < pieces.size(); ++i) {
        EXPECT_TRUE(at::equal(pieces[i].view, b[rank].weights.at(name)[i].view))
            << name << " on rank " << rank;
      }
    }
  }
}

class OptimizersTest : public testing::TestWithParam<Optimizer> {
 protected:
  // Without biases, of which some have a gradient of nothing but rounding: Lion steps by its sign.
  SmallTraining Training(const Ranks& ranks, at::ScalarType dtype, int stage) const {
    return {.model = "llama",
            .dtype = dtype,
            .batch_size = 8 / ranks.dp,
            .max_steps = 4,
            .learning_rate = GetParam().learning_rate,
            .max_grad_norm = 0.5,
            .zero_stage = stage,
            .rules = RulesByName(GetParam().optim, GetParam().args, {}).value(),
            .num_layers = 2,
            .vocab_size = 135,
            .num_tokens = 16};
  }
  bool Fits(const Ranks& ranks) const { return GetParam().elementwise || ranks.tp == 1; }
};

TEST_P(OptimizersTest, EveryStageHasTheBitsOfStage0) {
  for (const Ranks& ranks : kRanks) {
    if (!Fits(ranks) || ranks.dp == 1) continue;
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      if (dtype == at::kBFloat16 && ranks.dp * ranks.tp * ranks.pp > 2) continue;
      const auto training = [&](int stage) {
        SmallTraining t = Training(ranks, dtype, stage);
        if (ranks.pp > 1) t.model = "qwen2";  // a tied table
        return t;
      };
      const std::vector<Outcome> stage0 = Train(ranks, training(0));
      for (const int stage : {1, 2, 3}) {
        SCOPED_TRACE(absl::StrCat(ranks.name, " ", at::toString(dtype), " stage ", stage));
        ExpectSameBits(Train(ranks, training(stage)), stage0);
      }
    }
  }
}

TEST_P(OptimizersTest, EqualsOneProcess) {
  const Outcome one = Train(kRanks[0], Training(kRanks[0], at::kDouble, 0))[0];
  ASSERT_LT(one.losses.back(), one.losses.front()) << "it must learn something";
  const double bar = GetParam().continuous ? 1e-10 : 0.05;
  for (const Ranks& ranks : kRanks) {
    if (!Fits(ranks) || ranks.dp == 1) continue;
    for (const Outcome& mine : Train(ranks, Training(ranks, at::kDouble, 2))) {
      const Differences d = Difference(mine, one);
      EXPECT_LT(d.losses, bar) << ranks.name;
      EXPECT_LT(d.weights, bar) << ranks.name;
    }
  }
}

// Saves on two ranks at stage 2, goes on on four at stage 3, saves, and goes on alone.
TEST_P(OptimizersTest, AnyLayoutGoesOn) {
  const auto training = [&](const Ranks& ranks, int stage) {
    SmallTraining t = Training(ranks, at::kDouble, stage);
    t.max_steps = 9;
    return t;
  };
  const Outcome one = Train(kRanks[0], training(kRanks[0], 0))[0];
  const double bar = GetParam().continuous ? 1e-10 : 0.05;
  const auto expect_close = [&](const Outcome& mine, const char* what) {
    const Differences d = Difference(mine, one);
    std::printf("%s %s: losses %.1e, weights %.1e\n", GetParam().name, what, d.losses, d.weights);
    EXPECT_LT(d.losses, bar) << what;
    EXPECT_LT(d.weights, bar) << what;
  };
  const std::string folder = absl::StrCat(testing::TempDir(), "/", GetParam().name);
  SmallTraining two = training(kRanks[1], 2);
  two.output_dir = folder + "/two";
  std::filesystem::create_directories(two.output_dir);
  Train(kRanks[1], two);
  SmallTraining four = training(kRanks[2], 3);
  four.resume_from = two.output_dir + "/checkpoint-3";
  four.output_dir = folder + "/four";
  std::filesystem::create_directories(four.output_dir);
  expect_close(Train(kRanks[2], four)[0], "dp2 stage 2 to dp4 stage 3");
  SmallTraining alone = training(kRanks[0], 0);
  alone.resume_from = four.output_dir + "/checkpoint-6";
  expect_close(Train(kRanks[0], alone)[0], "dp4 stage 3 to one");

  // Another optimizer refuses it, by both names.
  const std::string name = alone.rules.name;
  alone.rules = name == "adamw" ? LionRules({}) : AdamWRules({});
  try {
    Train(kRanks[0], alone);
    FAIL() << "a checkpoint of " << name << " was loaded";
  } catch (const std::runtime_error& error) {
    const std::string message = error.what();
    EXPECT_TRUE(
        absl::StrContains(message, absl::StrCat("is of the optimizer ", name, ", this run's is ",
                                                alone.rules.name, ": its states")))
        << message;
  }
}

INSTANTIATE_TEST_SUITE_P(Optimizers, OptimizersTest, testing::ValuesIn(kOptimizers),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace lathe
