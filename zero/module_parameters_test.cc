// A LibTorch module under every stage against plain autograd and AdamW on the whole batch.
#include "lathe/zero/module_parameters.h"

#include <string>
#include <utility>
#include <vector>

#include "ATen/core/grad_mode.h"
#include "ATen/ops/_fused_adamw.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/linspace.h"
#include "ATen/ops/mm.h"
#include "ATen/ops/zeros.h"
#include "ATen/ops/zeros_like.h"
#include "gtest/gtest.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/block_runner.h"
#include "lathe/layers/relative_error.h"
#include "lathe/zero/unit_runner.h"
#include "lathe/zero/zero_optimizer.h"

namespace lathe {
namespace {

constexpr int64_t kWidth = 8, kSamples = 12;

// Leaves as a module's are: two layers of which the first is used twice, and a frozen one.
struct Leaves {
  at::Tensor shared = Leaf(1, true), last = Leaf(2, true), frozen = Leaf(3, false);

  static at::Tensor Leaf(double start, bool trainable) {
    return at::linspace(start, start + 5, kWidth * kWidth, at::kDouble)
        .sin()
        .view({kWidth, kWidth})
        .set_requires_grad(trainable);
  }
  at::Tensor First(const at::Tensor& x) const { return at::mm(at::mm(x, shared).tanh(), shared); }
  at::Tensor Last(const at::Tensor& h) const { return at::mm(at::mm(h, frozen).tanh(), last); }
};

at::Tensor Samples() {
  return at::linspace(-1, 1, kSamples * kWidth, at::kDouble).view({kSamples, kWidth});
}

// Both trained leaves after three updates, by LibTorch alone.
std::vector<at::Tensor> Expected() {
  const Leaves leaves;
  std::vector<at::Tensor> weights = {leaves.shared, leaves.last}, m, v, steps;
  for (const at::Tensor& weight : weights) {
    m.push_back(at::zeros_like(weight));
    v.push_back(at::zeros_like(weight));
    steps.push_back(at::zeros({}, at::kFloat));
  }
  for (int update = 0; update < 3; ++update) {
    RunBackward({leaves.Last(leaves.First(Samples())).square().sum()}, {{}});
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> grads;
    for (size_t i = 0; i < weights.size(); ++i) {
      grads.push_back(weights[i].grad());
      weights[i].mutable_grad().reset();
      steps[i].add_(1);
    }
    at::_fused_adamw_(weights, grads, m, v, {}, steps, 0.01, 0.9, 0.999, 0.0, 1e-8, false, false);
  }
  return weights;
}

TEST(ModuleParametersTest, EveryStageTrainsAsAutogradAlone) {
  const std::vector<at::Tensor> expected = Expected();
  RunThreadRanks(*ProcessMesh::Create({{"dp", 2}}), [&](const ParallelContext& context) {
    for (const int stage : {0, 1, 2, 3}) {
      const Leaves leaves;
      ModuleParameters parameters(
          {{"shared", leaves.shared}, {"last", leaves.last}, {"frozen", leaves.frozen}});
      ASSERT_EQ(parameters.all().size(), 3u);
      EXPECT_FALSE(parameters.all()[2]->trainable());
      parameters.all()[1]->set_unit(1);
      parameters.all()[2]->set_unit(1);
      ZeroUnits units({.persistence_threshold = 0});
      PlainRunner plain;
      UnitRunner runner(units, plain);
      ZeroOptimizer optimizer(parameters.all(), {.stage = stage, .max_grad_norm = 0}, context,
                              &units);
      const at::Tensor x =
          Samples().narrow(0, context.rank() * kSamples / 2, kSamples / 2).set_requires_grad(true);
      for (int update = 0; update < 3; ++update) {
        optimizer.BeginUpdate();
        optimizer.BeginMicroBatch(0, true);
        at::Tensor h = runner.Run(0, {parameters.all()[0]}, {x}, [&](const TensorList& in) {
          return TensorList{leaves.First(in[0])};
        })[0];
        h = runner.Run(1, {parameters.all()[1], parameters.all()[2]}, {h},
                       [&](const TensorList& in) { return TensorList{leaves.Last(in[0])}; })[0];
        RunBackward({h.square().sum()}, {{}});
        EXPECT_FALSE(leaves.shared.grad().defined()) << "it was taken";
        optimizer.Step(0.01);
      }
      const GatheredParameters whole(units, parameters.all());
      // The module's own tensors. Sums of two ranks: rounding.
      EXPECT_LT(RelativeError(leaves.shared.detach(), expected[0].detach(), 1e-9), 1e-12) << stage;
      EXPECT_LT(RelativeError(leaves.last.detach(), expected[1].detach(), 1e-9), 1e-12) << stage;
      EXPECT_TRUE(at::equal(leaves.frozen, Leaves().frozen));
    }
  });
}

TEST(ModuleParametersTest, LeavesTheModuleAsItWas) {
  const Leaves leaves;
  {
    ModuleParameters parameters({{"shared", leaves.shared}});
    RunBackward({leaves.First(Samples()).sum()}, {{}});
    EXPECT_TRUE(leaves.shared.grad().defined()) << "no optimizer took it";
  }
  leaves.shared.mutable_grad().reset();
  RunBackward({leaves.First(Samples()).sum()}, {{}});
  EXPECT_TRUE(leaves.shared.grad().defined());
  EXPECT_ANY_THROW(ModuleParameters({{"product", at::mm(leaves.shared, leaves.last)}}));
}

}  // namespace
}  // namespace lathe
