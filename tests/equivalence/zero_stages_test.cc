// ZeRO's stages against stage 0, through the real Trainer, ranks as threads: the same bits with one
// micro batch, whatever else the ranks share; with several, stage 1 still, and stages 2 and 3 but
// for the order in which micro batches and ranks are added. Stage 3 has stage 2's bits, however
// long it keeps what it has gathered.
#include <string>
#include <vector>

#include "ATen/ops/equal.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/tests/equivalence/small_training.h"

namespace lathe {
namespace {

struct Ranks {
  const char* name;
  int dp, tp = 1, pp = 1;
  bool sequence_parallel = false;
};
constexpr Ranks kRanks[] = {
    {"dp2", 2}, {"dp4", 4}, {"dp2_tp2_sequence", 2, 2, 1, true}, {"dp2_pp2", 2, 1, 2}};

std::vector<Outcome> Train(const Ranks& ranks, const SmallTraining& training) {
  std::vector<Outcome> outcomes(ranks.dp * ranks.tp * ranks.pp);
  RunThreadRanks(*ProcessMesh::Create({{"tp", ranks.tp}, {"dp", ranks.dp}, {"pp", ranks.pp}}),
                 [&](const ParallelContext& context) {
                   outcomes[context.rank()] = TrainSmall(context, training);
                 });
  return outcomes;
}

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

class ZeroStagesTest : public testing::TestWithParam<Ranks> {
 protected:
  SmallTraining Training(at::ScalarType dtype, int accumulation, int stage) const {
    return {.model = "qwen2",  // tied: its table has a bucket of its own
            .dtype = dtype,
            .batch_size = 2,
            .accumulation = accumulation,
            .max_grad_norm = 0.05,  // clips
            .sequence_parallel = GetParam().sequence_parallel,
            .zero_stage = stage,
            .num_layers = 4,
            .vocab_size = 67};
  }
};

TEST_P(ZeroStagesTest, SameBitsWithOneMicroBatch) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
    SCOPED_TRACE(at::toString(dtype));
    const std::vector<Outcome> stage0 = Train(GetParam(), Training(dtype, 1, 0));
    ASSERT_LT(stage0[0].losses.back(), stage0[0].losses.front()) << "it must learn something";
    for (const int stage : {1, 2, 3}) {
      SCOPED_TRACE(absl::StrCat("stage ", stage));
      ExpectSameBits(Train(GetParam(), Training(dtype, 1, stage)), stage0);
    }
  }
}

TEST_P(ZeroStagesTest, SeveralMicroBatches) {
  const std::vector<Outcome> stage0 = Train(GetParam(), Training(at::kDouble, 4, 0));
  ExpectSameBits(Train(GetParam(), Training(at::kDouble, 4, 1)), stage0);
  const std::vector<Outcome> stage2 = Train(GetParam(), Training(at::kDouble, 4, 2));
  for (size_t rank = 0; rank < stage0.size(); ++rank) {
    for (size_t i = 0; i < stage0[rank].losses.size(); ++i) {
      EXPECT_NEAR(stage2[rank].losses[i], stage0[rank].losses[i], 1e-12);
      EXPECT_NEAR(stage2[rank].grad_norms[i], stage0[rank].grad_norms[i], 1e-12);
    }
  }
  SmallTraining training = Training(at::kDouble, 4, 3);
  for (const Reshard reshard : {Reshard::kAuto, Reshard::kAlways, Reshard::kNever}) {
    SCOPED_TRACE(absl::StrCat("reshard ", static_cast<int>(reshard)));
    training.units.reshard = reshard;
    ExpectSameBits(Train(GetParam(), training), stage2);
  }
  training.units = {.prefetch_elements = 0, .persistence_threshold = 0, .max_live_elements = 1};
  training.recompute = true;
  ExpectSameBits(Train(GetParam(), training), stage2);
}

INSTANTIATE_TEST_SUITE_P(Meshes, ZeroStagesTest, testing::ValuesIn(kRanks),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace lathe
