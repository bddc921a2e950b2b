// What the head is for: neither form ever holds [tokens, vocabulary], and in fp32, with the kernel,
// both agree with the plain formula, on one rank and on several.
#include <cstdint>

#include "ATen/ops/arange.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/linear.h"
#include "ATen/ops/log_softmax.h"
#include "ATen/ops/ones.h"
#include "gtest/gtest.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/gradient_sink.h"
#include "lathe/layers/memory_meter.h"
#include "lathe/layers/relative_error.h"
#include "lathe/tensor_parallel/vocab_parallel_embedding.h"
#include "lathe/tensor_parallel/vocab_parallel_head.h"

namespace lathe {
namespace {

constexpr int64_t kTokens = 2048, kVocabulary = 20'000, kHidden = 64;

at::Tensor Hidden() {
  Parameter values("hidden", {kTokens, kHidden}, ShardSpec::Whole({kTokens, kHidden}),
                   at::empty({kTokens, kHidden}, at::kFloat), Initializer::Normal(1));
  values.Initialize(5);
  return values.tensor().detach().clone().set_requires_grad(true);
}

at::Tensor Targets() { return at::arange(kTokens, at::kLong).mul(9); }

class HeadMemoryTest : public testing::Test {
 protected:
  HeadMemoryTest()
      : shard_(VocabShard::Create("head", kVocabulary, kHidden, Initializer::Normal(0.1), alone_,
                                  at::kFloat)) {
    shard_.weight->Initialize(5);
    shard_.weight->set_sink(&sink_);
  }

  // The most that `step` held beyond what was there, in bytes.
  template <typename Step>
  static int64_t Peak(const Step& step) {
    MemoryMeter::Install();
    const int64_t before = MemoryMeter::current_bytes();
    MemoryMeter::ResetPeak();
    step();
    return MemoryMeter::peak_bytes() - before;
  }

  // A fifth of [tokens, vocabulary], of which the weight's gradient is a sixth.
  static constexpr int64_t kMost = kTokens * kVocabulary * 4 / 5;

  Communicator alone_;
  MainGradSink sink_;
  VocabShard shard_;
};

TEST_F(HeadMemoryTest, WeightedCrossEntropyWithItsGradients) {
  VocabParallelHead head(shard_, alone_);
  const at::Tensor hidden = Hidden(), targets = Targets(), weights = at::ones({kTokens});
  EXPECT_LT(Peak([&] { RunBackward({head.WeightedCrossEntropy(hidden, targets, weights)}, {{}}); }),
            kMost);
  ASSERT_TRUE(hidden.grad().defined());
  ASSERT_TRUE(shard_.weight->main_grad.defined());
}

TEST_F(HeadMemoryTest, TokenLogProbsWithTheirGradients) {
  VocabParallelHead head(shard_, alone_);
  const at::Tensor hidden = Hidden(), targets = Targets(), ones = at::ones({kTokens});
  EXPECT_LT(Peak([&] { RunBackward({head.TokenLogProbs(hidden, targets)}, {ones}); }), kMost);
  ASSERT_TRUE(hidden.grad().defined());
  ASSERT_TRUE(shard_.weight->main_grad.defined());
}

TEST(HeadKernelTest, EqualsThePlainFormulaOnRanks) {
  for (int ranks : {1, 2, 4}) {
    RunThreadRanks(*ProcessMesh::Create({{"tp", ranks}}), [](const ParallelContext& context) {
      const Communicator& tp = context.Group({"tp"});
      MainGradSink sink;
      VocabShard shard = VocabShard::Create("head", kVocabulary, kHidden, Initializer::Normal(0.1),
                                            tp, at::kFloat);
      shard.weight->Initialize(5);
      shard.weight->set_sink(&sink);
      VocabParallelHead head(shard, tp);
      const at::Tensor hidden = Hidden().detach().narrow(0, 0, 300).clone().set_requires_grad(true);
      const at::Tensor targets = Targets().narrow(0, 0, 300), weights = at::ones({300});
      const at::Tensor loss = head.WeightedCrossEntropy(hidden, targets, weights);
      RunBackward({loss}, {{}});

      Parameter whole("head", {kVocabulary, kHidden}, ShardSpec::Whole({kVocabulary, kHidden}),
                      at::empty({kVocabulary, kHidden}, at::kFloat), Initializer::Normal(0.1));
      whole.Initialize(5);
      const at::Tensor reference = hidden.detach().clone().set_requires_grad(true);
      const at::Tensor expected = at::log_softmax(at::linear(reference, whole.tensor()), 1)
                                      .gather(1, targets.unsqueeze(1))
                                      .sum()
                                      .neg();
      RunBackward({expected}, {{}});
      EXPECT_NEAR(loss.item().toDouble(), expected.item().toDouble(),
                  1e-6 * expected.item().toDouble());
      EXPECT_LT(RelativeError(hidden.grad(), reference.grad()), 1e-5);
      EXPECT_LT(RelativeError(shard.weight->main_grad.narrow(0, 0, shard.num_rows),
                              whole.tensor().grad().narrow(0, shard.first_row, shard.num_rows)),
                1e-5);
    });
  }
}

}  // namespace
}  // namespace lathe
