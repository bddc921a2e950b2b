// The step against a plain AdamW in fp64, clipping and skipping included, alone and data-parallel.
#include "lathe/zero/zero_optimizer.h"

#include <cmath>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "ATen/ops/add.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/full.h"
#include "ATen/ops/linear.h"
#include "ATen/ops/mul.h"
#include "ATen/ops/zeros_like.h"
#include "gtest/gtest.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/linear.h"
#include "lathe/layers/relative_error.h"
#include "lathe/zero/rule_set.h"
#include "lathe/zero/weight_decay.h"

namespace lathe {
namespace {

std::unique_ptr<Parameter> Make(const char* name, std::vector<int64_t> shape, at::ScalarType type) {
  auto p = std::make_unique<Parameter>(name, shape, ShardSpec::Whole(shape), at::empty(shape, type),
                                       Initializer::Normal(1));
  p->Initialize(3);
  return p;
}

at::Tensor Values(const char* name, std::vector<int64_t> shape, at::ScalarType type = at::kDouble) {
  return Make(name, shape, type)->tensor().detach().clone();
}

TEST(WeightDecayTest, FollowsHuggingFace) {
  for (const char* name :
       {"model.embed_tokens.weight", "lm_head.weight", "model.layers.0.mlp.up_proj.weight",
        "model.normaliser.weight", "normal.weight"}) {
    EXPECT_TRUE(HasWeightDecay(name)) << name;
  }
  for (const char* name :
       {"model.layers.0.self_attn.q_proj.bias", "model.norm.weight", "norm",
        "model.layers.3.input_layernorm.weight", "x.q_norm.weight", "x.RMSNorm.weight"}) {
    EXPECT_FALSE(HasWeightDecay(name)) << name;
  }
}

// One AdamW step by the book (Loshchilov and Hutter, 2019).
void ReferenceStep(at::Tensor& w, at::Tensor& m, at::Tensor& v, const at::Tensor& g, int t,
                   double lr, double decay) {
  w.mul_(1 - lr * decay);
  m.mul_(0.9).add_(g, 0.1);
  v.mul_(0.999).add_(at::mul(g, g), 0.001);
  const at::Tensor denominator = v.div(1 - std::pow(0.999, t)).sqrt_().add_(1e-8);
  w.sub_(m.div(1 - std::pow(0.9, t)).div_(denominator), lr);
}

TEST(ZeroOptimizerTest, EqualsPlainAdamWithClippingOnEveryNumberOfRanks) {
  for (const auto& [ranks, stage] :
       {std::pair{1, 0}, {2, 0}, {4, 0}, {2, 1}, {4, 1}, {2, 2}, {4, 2}}) {
    RunThreadRanks(*ProcessMesh::Create({{"dp", ranks}}), [&](const ParallelContext& context) {
      auto weight = Make("w", {5, 6}, at::kDouble), norm = Make("norm", {5}, at::kDouble);
      at::Tensor rw = weight->tensor().detach().clone(), rn = norm->tensor().detach().clone();
      at::Tensor mw = at::zeros_like(rw), vw = at::zeros_like(rw), mn = at::zeros_like(rn),
                 vn = at::zeros_like(rn);
      // A tiny bucket size, so that there are several.
      ZeroOptimizer optimizer(
          {weight.get(), norm.get()},
          {.stage = stage, .weight_decay = 0.1, .max_grad_norm = 0.5, .reduce_bucket_elements = 8},
          context);
      for (int t = 1; t <= 4; ++t) {
        // 4 micro batches in all, dealt to the ranks; step 3 uses only one parameter.
        const at::Tensor x = Values(t % 2 ? "x1" : "x2", {4, 6});
        optimizer.BeginUpdate();
        for (int i = 0; i < 4 / ranks; ++i) {
          optimizer.BeginMicroBatch(i, i == 4 / ranks - 1);
          const at::Tensor row = x.narrow(0, context.rank() * (4 / ranks) + i, 1);
          const at::Tensor y = Linear(row, *weight, t == 3 ? nullptr : norm.get());
          RunBackward({y.square().sum()}, {{}});
        }
        const ZeroOptimizer::StepResult result = optimizer.Step(0.01 * t);

        const at::Tensor y = at::add(at::linear(x, rw), t == 3 ? at::zeros_like(rn) : rn);
        at::Tensor gw = y.mul(2).t().matmul(x);
        at::Tensor gn = t == 3 ? at::zeros_like(rn) : y.mul(2).sum(0);
        const double expected =
            std::sqrt(gw.square().sum().item().toDouble() + gn.square().sum().item().toDouble());
        EXPECT_NEAR(result.grad_norm, expected, 1e-11 * expected);
        const double coefficient = std::min(1.0, 0.5 / (expected + 1e-6));
        ReferenceStep(rw, mw, vw, gw.mul(coefficient), t, 0.01 * t, 0.1);
        ReferenceStep(rn, mn, vn, gn.mul(coefficient), t, 0.01 * t, 0.0);
        EXPECT_LT(RelativeError(weight->tensor(), rw), 1e-12);
        EXPECT_LT(RelativeError(norm->tensor(), rn), 1e-12);
      }
    });
  }
}

// Three matrices, one of them large, over four ranks: each shard is as large as that.
TEST(ZeroOptimizerTest, WholeTensorsArePadded) {
  RunThreadRanks(*ProcessMesh::Create({{"dp", 4}}), [](const ParallelContext& context) {
    const auto a = Make("a.weight", {32, 64}, at::kFloat),
               b = Make("b.weight", {32, 32}, at::kFloat),
               c = Make("c.weight", {32, 32}, at::kFloat);
    const std::vector<Parameter*> parameters = {a.get(), b.get(), c.get()};
    const auto padding = [&](const RuleSet& rules) {
      return ZeroOptimizer(parameters, {.stage = 1, .rules = rules}, context).Padding();
    };
    EXPECT_EQ(padding(AdamWRules({})), 1);
    EXPECT_EQ(padding(MuonRules({}, {})), 2);
  });
}

// Gradients that are parts of a sum over tensor ranks, of all or of neighbours, besides the data-
// parallel sum; a tensor that several hold counts once in the norm.
TEST(ZeroOptimizerTest, PartialSumsComeFirst) {
  RunThreadRanks(*ProcessMesh::Create({{"tp", 4}, {"dp", 2}}), [](const ParallelContext& context) {
    const int tp = context.Group({"tp"}).rank(), dp = context.Group({"dp"}).rank();
    // All ranks hold `all`; `half` is one tensor on ranks 0 and 1, another on 2 and 3.
    Parameter all("all", {1, 3}, ShardSpec::Whole({1, 3}, tp), at::empty({1, 3}, at::kDouble),
                  Initializer::Zeros());
    Parameter half("half", {2, 3}, ShardSpec::Slice({2, 3}, 0, tp / 2, 1, tp % 2),
                   at::empty({1, 3}, at::kDouble), Initializer::Zeros());
    all.set_partial_sums({{.axis = "tp"}});
    half.set_partial_sums({{.axis = "tp", .block = 2}});
    all.Initialize(1);
    half.Initialize(1);
    ZeroOptimizer optimizer({&all, &half}, {.max_grad_norm = 0}, context);
    optimizer.BeginUpdate();
    optimizer.BeginMicroBatch(0, true);
    // The gradient of each element is the input's element: 1 + tp + 10 · dp.
    const at::Tensor x = at::full({1, 3}, 1.0 + tp + 10 * dp, at::kDouble);
    RunBackward({Linear(x, all, nullptr).sum().add(Linear(x, half, nullptr).sum())}, {{}});
    const double norm = optimizer.Step(0.1).grad_norm;
    const double of_all = 2 * (1 + 2 + 3 + 4) + 40;
    const double low = 2 * (1 + 2) + 20, high = 2 * (3 + 4) + 20;
    EXPECT_EQ(all.main_grad[0][2].item().toDouble(), of_all);
    EXPECT_EQ(half.main_grad[0][2].item().toDouble(), tp < 2 ? low : high);
    EXPECT_NEAR(norm, std::sqrt(3 * (of_all * of_all + low * low + high * high)), 1e-11 * norm);
  });
}

TEST(ZeroOptimizerTest, ANonFiniteGradientChangesNothing) {
  auto context = ParallelContext::SingleProcess();
  auto weight = Make("w", {3, 4}, at::kFloat);
  ZeroOptimizer optimizer({weight.get()}, {}, *context);
  const at::Tensor before = weight->tensor().detach().clone();
  for (double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    optimizer.BeginUpdate();
    optimizer.BeginMicroBatch(0, true);
    const at::Tensor x = Values("x", {2, 4}, at::kFloat);
    RunBackward({Linear(x, *weight, nullptr).sum().mul(bad)}, {{}});
    const auto result = optimizer.Step(0.1);
    EXPECT_TRUE(result.skipped);
    EXPECT_FALSE(std::isfinite(result.grad_norm));
    EXPECT_EQ(RelativeError(weight->tensor(), before), 0);
  }
  for (const NamedTensor& state : optimizer.States()) {
    EXPECT_EQ(state.pieces[0].local.abs().sum().item().toDouble(), 0) << state.name;
  }
}

TEST(ZeroOptimizerTest, HalfWeightsHaveMastersAndFp32Gradients) {
  auto context = ParallelContext::SingleProcess();
  auto weight = Make("w", {3, 4}, at::kBFloat16), frozen = Make("f", {2}, at::kBFloat16);
  frozen->set_trainable(false);
  ZeroOptimizer optimizer({weight.get(), frozen.get()}, {.max_grad_norm = 0}, *context);
  EXPECT_EQ(weight->main_grad.scalar_type(), at::kFloat);
  EXPECT_FALSE(frozen->main_grad.defined());
  const at::Tensor start = weight->tensor().detach().clone();
  // Steps far below bf16's resolution add up in the master.
  for (int i = 0; i < 100; ++i) {
    optimizer.BeginUpdate();
    optimizer.BeginMicroBatch(0, true);
    RunBackward({Linear(Values("x", {2, 4}, at::kBFloat16), *weight, nullptr).sum()}, {{}});
    optimizer.Step(1e-4);
  }
  EXPECT_NEAR(weight->tensor()
                  .detach()
                  .to(at::kDouble)
                  .sub(start.to(at::kDouble))
                  .abs()
                  .mean()
                  .item()
                  .toDouble(),
              1e-2, 2e-3);
  const auto weights = optimizer.Weights(at::kBFloat16);
  ASSERT_EQ(weights.size(), 2u);
  EXPECT_EQ(weights[0].pieces[0].local.scalar_type(), at::kFloat) << "saved from the master";
  ASSERT_EQ(optimizer.States().size(), 4u);
  EXPECT_EQ(optimizer.States()[2].name, "w.master");
}

}  // namespace
}  // namespace lathe
