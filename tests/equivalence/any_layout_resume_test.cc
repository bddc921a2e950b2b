// What was saved under one layout goes on under any other as if nothing had happened: losses,
// gradient norms, learning rates, the data's order into the next epoch, and the weights.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/tests/equivalence/small_training.h"

namespace lathe {
namespace {

struct Layout {
  const char* name;
  int dp = 1, tp = 1, pp = 1;
  bool sequence_parallel = false;
  int zero_stage = 0;
};
constexpr Layout kLayouts[] = {{"one"},
                               {"dp2_zero2", 2, 1, 1, false, 2},
                               {"dp4_zero3", 4, 1, 1, false, 3},
                               {"tp2", 1, 2},
                               {"dp2_pp2_zero1", 2, 1, 2, false, 1},
                               {"tp2_pp2", 1, 2, 2},
                               {"dp2_tp2_sequence", 2, 2, 1, true}};

// 9 updates of 8 samples out of 40: the second epoch starts after the fifth, the checkpoint is
// written after the third.
SmallTraining Under(const Layout& layout, const char* model, at::ScalarType dtype) {
  return {.model = model,
          .dtype = dtype,
          .batch_size = 4 / layout.dp,
          .accumulation = 2,
          .max_steps = 9,
          .max_grad_norm = 0.5,
          .sequence_parallel = layout.sequence_parallel,
          .zero_stage = layout.zero_stage,
          .num_layers = 8,
          .vocab_size = 67,
          .num_tokens = 16};
}

double Relative(double a, double b) { return std::abs(a - b) / std::abs(b); }

struct Errors {
  double first = 0, next = 0, weights = 0;  // losses 4, 5 to 9
};

// The largest of all ranks. Losses 1 to 3 are the checkpoint's.
Errors Train(const Layout& layout, const SmallTraining& training, const Outcome& one) {
  std::mutex mutex;
  Errors worst;
  RunThreadRanks(*ProcessMesh::Create({{"tp", layout.tp}, {"dp", layout.dp}, {"pp", layout.pp}}),
                 [&](const ParallelContext& rank) {
                   const Outcome mine = TrainSmall(rank, training);
                   const Differences d = Difference(mine, one);
                   std::lock_guard<std::mutex> lock(mutex);
                   ASSERT_EQ(mine.losses.size(), 9u);
                   EXPECT_EQ(mine.learning_rates, one.learning_rates);
                   EXPECT_EQ(mine.epochs, one.epochs);
                   // A resumed run makes no first step.
                   EXPECT_EQ(mine.first_gradients.empty(), !training.resume_from.empty());
                   worst.first = std::max(worst.first, Relative(mine.losses[3], one.losses[3]));
                   for (int i = 4; i < 9; ++i) {
                     worst.next = std::max(worst.next, Relative(mine.losses[i], one.losses[i]));
                   }
                   worst.weights = std::max(worst.weights, d.weights);
                 });
  return worst;
}

class AnyLayoutResumeTest : public testing::TestWithParam<Layout> {
 protected:
  // Saves under the parameter's layout and goes on under each of the others.
  void ExpectAllPairs(const char* model, at::ScalarType dtype, const Errors& bar) {
    const Layout& from = GetParam();
    SmallTraining saving = Under(from, model, dtype);
    const Outcome one =
        TrainSmall(*ParallelContext::SingleProcess(), Under(kLayouts[0], model, dtype));
    ASSERT_LT(one.losses[8], 0.98 * one.losses[3]) << "it must learn something meanwhile";
    saving.output_dir = testing::TempDir() + "/" + from.name + model + at::toString(dtype);
    std::filesystem::create_directories(saving.output_dir);
    Train(from, saving, one);
    for (const Layout& to : kLayouts) {
      if (std::string(to.name) == from.name) continue;
      SmallTraining going_on = Under(to, model, dtype);
      going_on.resume_from = saving.output_dir + "/checkpoint-3";
      const Errors errors = Train(to, going_on, one);
      const std::string what = std::string(from.name) + " to " + to.name;
      EXPECT_LT(errors.first, bar.first) << what;
      EXPECT_LT(errors.next, bar.next) << what;
      EXPECT_LT(errors.weights, bar.weights) << what;
      std::printf("%s %s, %s: first loss %.1e, next %.1e, weights %.1e\n", model,
                  at::toString(dtype), what.c_str(), errors.first, errors.next, errors.weights);
    }
  }
};

// The bars are the project's. A family for each precision: with tied embeddings, and without.
TEST_P(AnyLayoutResumeTest, Fp64) { ExpectAllPairs("qwen2", at::kDouble, {1e-10, 1e-10, 1e-10}); }

// AdamW makes a whole step of a gradient that is nothing but rounding, so that weights have no bar.
TEST_P(AnyLayoutResumeTest, Fp32) { ExpectAllPairs("llama", at::kFloat, {2e-6, 2e-5, 1}); }

INSTANTIATE_TEST_SUITE_P(Layouts, AnyLayoutResumeTest, testing::ValuesIn(kLayouts),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace lathe
