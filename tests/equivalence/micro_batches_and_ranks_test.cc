// However an update's samples are cut, into micro batches or over ranks, the training is the same:
// N micro batches equal one batch, N ranks equal one process. In fp64, where "the same" can be held
// to twelve digits, with samples that have unequal numbers of labels, through the real Trainer.
#include <cstdio>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/tests/equivalence/small_training.h"

namespace lathe {
namespace {

// Sums in another order: some 1e-16 per term, in fp64. AdamW divides by the root of the squared
// gradient, so that where a gradient is small against its tensor a weight shows more of it.
void ExpectEqual(const Outcome& a, const Outcome& b, const char* what) {
  const Differences d = Difference(a, b);
  EXPECT_LT(d.losses, 1e-12) << what;
  EXPECT_LT(d.grad_norms, 1e-12) << what;
  EXPECT_LT(d.gradients, 1e-12) << what;
  EXPECT_LT(d.weights, 1e-12) << what;
  std::printf("%s: losses %.2g, norms %.2g, gradients %.2g, weights %.2g\n", what, d.losses,
              d.grad_norms, d.gradients, d.weights);
}

class MicroBatchesAndRanksTest : public testing::TestWithParam<const char*> {};

TEST_P(MicroBatchesAndRanksTest, MicroBatchesEqualOneBatch) {
  auto context = ParallelContext::SingleProcess();
  // 7 updates of 8 samples out of 40: the last two are of a second epoch. Clipped and not.
  for (double max_grad_norm : {0.0, 0.5}) {
    const SmallTraining whole{.model = GetParam(), .max_steps = 7, .max_grad_norm = max_grad_norm};
    const Outcome one = TrainSmall(*context, whole);
    ASSERT_EQ(one.losses.size(), 7u);
    EXPECT_LT(one.losses.back(), one.losses.front()) << "it must learn something";
    for (int accumulation : {2, 4, 8}) {
      SmallTraining parts = whole;
      parts.batch_size = 8 / accumulation;
      parts.accumulation = accumulation;
      ExpectEqual(TrainSmall(*context, parts), one, "micro batches");
    }
  }
}

TEST_P(MicroBatchesAndRanksTest, RanksEqualOneProcess) {
  auto context = ParallelContext::SingleProcess();
  for (double max_grad_norm : {0.0, 0.5}) {
    const SmallTraining whole{.model = GetParam(), .max_grad_norm = max_grad_norm};
    const Outcome one = TrainSmall(*context, whole);
    for (int ranks : {1, 2, 4}) {
      for (int accumulation : {1, 2}) {
        SmallTraining parts = whole;
        parts.batch_size = 8 / ranks / accumulation;
        parts.accumulation = accumulation;
        std::mutex one_prints;
        RunThreadRanks(*ProcessMesh::Create({{"dp", ranks}}), [&](const ParallelContext& rank) {
          const Outcome mine = TrainSmall(rank, parts);
          std::lock_guard<std::mutex> lock(one_prints);
          ExpectEqual(mine, one, rank.world_size() == 1 ? "1 rank" : "ranks");
        });
      }
    }
  }
}

// The other axis alone and with data parallelism: a rank holds a part of each weight, and of an
// activation where the sequence is split. Over four ranks, each of the two KV heads is on two.
TEST_P(MicroBatchesAndRanksTest, TensorParallelRanksEqualOneProcess) {
  auto context = ParallelContext::SingleProcess();
  const Outcome one = TrainSmall(*context, {.model = GetParam(), .max_grad_norm = 0.5});
  const std::vector<std::pair<int, int>> meshes = {{2, 1}, {4, 1}, {2, 2}};
  for (const auto& [tp, dp] : meshes) {
    for (bool sequence_parallel : {false, true}) {
      const SmallTraining parts{.model = GetParam(),
                                .batch_size = 8 / dp / 2,
                                .accumulation = 2,
                                .max_grad_norm = 0.5,
                                .recompute = sequence_parallel,
                                .recompute_mlp = !sequence_parallel,
                                .sequence_parallel = sequence_parallel};
      std::mutex one_prints;
      RunThreadRanks(*ProcessMesh::Create({{"tp", tp}, {"dp", dp}}),
                     [&](const ParallelContext& rank) {
                       const Outcome mine = TrainSmall(rank, parts);
                       std::lock_guard<std::mutex> lock(one_prints);
                       ExpectEqual(mine, one, sequence_parallel ? "tp, sequence" : "tp");
                     });
    }
  }
}

// A test of the test: another update is noticed.
TEST(SmallTrainingTest, NoticesAnotherUpdate) {
  auto context = ParallelContext::SingleProcess();
  const Outcome one = TrainSmall(*context, {});
  EXPECT_GT(Difference(TrainSmall(*context, {.batch_size = 4}), one).losses, 1e-6);
  EXPECT_GT(Difference(TrainSmall(*context, {.max_grad_norm = 0.5}), one).weights, 1e-6);
  const Outcome sgd = TrainSmall(*context, {.sgd = true});
  EXPECT_GT(Difference(TrainSmall(*context, {.batch_size = 4, .sgd = true}), sgd).weights, 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Families, MicroBatchesAndRanksTest, testing::Values("qwen2", "llama"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace lathe
