// Stage 3's runner against the plain one: outputs and gradients to the bit, and what is whole when.
#include "lathe/zero/unit_runner.h"

#include <memory>
#include <vector>

#include "ATen/ops/empty.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/linspace.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/block_runner.h"
#include "lathe/layers/linear.h"
#include "lathe/zero/zero_optimizer.h"

namespace lathe {
namespace {

constexpr int64_t kWidth = 16;
constexpr int kLayers = 4;

// A chain of linear layers, a unit each.
struct Chain {
  Chain(const ParallelContext& context, const UnitOptions& options, int stage,
        at::ScalarType dtype = at::kFloat, int frozen = 0)
      : units(options), runner(units, plain) {
    for (int i = 0; i < kLayers; ++i) {
      const std::vector<int64_t> shape = {kWidth, kWidth};
      parameters.push_back(std::make_unique<Parameter>(
          absl::StrCat("layers.", i, ".weight"), shape, ShardSpec::Whole(shape),
          at::empty(shape, at::TensorOptions(at::kMeta).dtype(dtype)), Initializer::Normal(0.3)));
      parameters.back()->set_unit(i);
      parameters.back()->set_trainable(i >= frozen);
      pointers.push_back(parameters.back().get());
    }
    optimizer =
        std::make_unique<ZeroOptimizer>(pointers, ZeroOptions{.stage = stage}, context, &units);
    optimizer->FillMasters([](Parameter& p, const at::Tensor& to) { p.InitializeInto(to, 1); });
    optimizer->AfterLoad();
  }

  at::Tensor Forward(at::Tensor x, BlockRunner& with) {
    for (int i = 0; i < kLayers; ++i) {
      x = with.Run(i, {pointers[i]}, {x}, [this, i](const TensorList& in) {
        return TensorList{Linear(in[0], *parameters[i], nullptr).tanh()};
      })[0];
    }
    return x;
  }

  bool IsWhole(int i) const { return parameters[i]->tensor().storage().data() != nullptr; }
  std::vector<bool> Whole() const {
    std::vector<bool> whole;
    for (int i = 0; i < kLayers; ++i) whole.push_back(IsWhole(i));
    return whole;
  }

  PlainRunner plain;
  ZeroUnits units;
  UnitRunner runner;
  std::vector<std::unique_ptr<Parameter>> parameters;
  std::vector<Parameter*> pointers;
  std::unique_ptr<ZeroOptimizer> optimizer;
};

at::Tensor Input(bool requires_grad) {
  return at::linspace(-1, 1, 3 * kWidth, at::kFloat)
      .view({3, kWidth})
      .set_requires_grad(requires_grad);
}

const std::vector<bool> kNone(kLayers, false);

// On two data-parallel ranks as threads.
void OnTwoRanks(const std::function<void(const ParallelContext&)>& body) {
  RunThreadRanks(*ProcessMesh::Create({{"dp", 2}}), body);
}

class UnitRunnerTest : public testing::TestWithParam<bool> {};  // recomputes

TEST_P(UnitRunnerTest, EqualsStageZeroAndHoldsNothingBetween) {
  OnTwoRanks([](const ParallelContext& context) {
    for (const bool input_requires_grad : {true, false}) {
      Chain zero(context, {}, 0), three(context, {.persistence_threshold = 0}, 3);
      RecomputeRunner recompute(three.plain);
      UnitRunner recomputing(three.units, recompute);
      for (int update = 0; update < 3; ++update) {
        std::vector<at::Tensor> outputs, input_grads;
        for (Chain* chain : {&zero, &three}) {
          chain->optimizer->BeginUpdate();
          chain->optimizer->BeginMicroBatch(0, /*last=*/true);
          const at::Tensor x = Input(input_requires_grad);
          BlockRunner& runner = chain == &zero ? static_cast<BlockRunner&>(chain->plain)
                                : GetParam()   ? recomputing
                                               : chain->runner;
          const at::Tensor y = chain->Forward(x, runner);
          if (chain == &three) {
            EXPECT_EQ(chain->Whole(), kNone) << "after forward";
          }
          RunBackward({y.sum()}, {{}});
          if (chain == &three) {
            EXPECT_EQ(chain->Whole(), kNone) << "after backward";
          }
          chain->optimizer->Step(0.1);
          outputs.push_back(y.detach());
          input_grads.push_back(x.grad());
        }
        EXPECT_TRUE(at::equal(outputs[0], outputs[1])) << update;
        if (input_requires_grad) {
          EXPECT_TRUE(at::equal(input_grads[0], input_grads[1]));
        }
      }
      const GatheredParameters whole(three.units, three.pointers);
      for (int i = 0; i < kLayers; ++i) {
        EXPECT_TRUE(at::equal(three.parameters[i]->tensor(), zero.parameters[i]->tensor()));
      }
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Recomputes, UnitRunnerTest, testing::Bool());

TEST(UnitRunnerTest, FrozenWeightsAreShardedToo) {
  OnTwoRanks([](const ParallelContext& context) {
    Chain zero(context, {}, 0, at::kBFloat16, /*frozen=*/2);
    Chain three(context, {.persistence_threshold = 0}, 3, at::kBFloat16, /*frozen=*/2);
    const at::Tensor x = Input(false).to(at::kBFloat16);
    for (Chain* chain : {&zero, &three}) {
      chain->optimizer->BeginUpdate();
      chain->optimizer->BeginMicroBatch(0, true);
      RunBackward({chain->Forward(x, chain->runner).sum()}, {{}});
      chain->optimizer->Step(0.1);
    }
    EXPECT_EQ(three.Whole(), kNone);
    EXPECT_EQ(three.optimizer->Weights(at::kBFloat16).size(), kLayers);
    const GatheredParameters whole(three.units, three.pointers);
    for (int i = 0; i < kLayers; ++i) {
      EXPECT_TRUE(at::equal(three.parameters[i]->tensor(), zero.parameters[i]->tensor()));
    }
  });
}

TEST(UnitRunnerTest, KeepsWhatItIsToldTo) {
  OnTwoRanks([](const ParallelContext& context) {
    const auto whole_after_forward = [&](const UnitOptions& options, bool only) {
      Chain chain(context, options, 3);
      chain.optimizer->BeginUpdate();
      chain.optimizer->BeginMicroBatch(0, /*last=*/only);
      const at::Tensor y = chain.Forward(Input(true), chain.runner);
      const std::vector<bool> whole = chain.Whole();
      RunBackward({y.sum()}, {{}});
      if (!only) {
        chain.optimizer->BeginMicroBatch(1, true);
        RunBackward({chain.Forward(Input(true), chain.runner).sum()}, {{}});
      }
      chain.optimizer->Step(0.1);
      EXPECT_EQ(chain.Whole(), std::vector<bool>(kLayers, options.persistence_threshold > 0));
      return whole;
    };
    const std::vector<bool> all(kLayers, true);
    constexpr int64_t kUnit = kWidth * kWidth;
    EXPECT_EQ(whole_after_forward({.persistence_threshold = kUnit}, true), all);
    EXPECT_EQ(whole_after_forward({.persistence_threshold = 0}, true), kNone);
    EXPECT_EQ(whole_after_forward({.persistence_threshold = 0}, false), all);
    EXPECT_EQ(whole_after_forward({.reshard = Reshard::kAlways, .persistence_threshold = 0}, false),
              kNone);
    EXPECT_EQ(whole_after_forward({.reshard = Reshard::kNever, .persistence_threshold = 0}, true),
              all);
    // As far as the live limit allows: two units.
    EXPECT_EQ(
        whole_after_forward({.persistence_threshold = 0, .max_live_elements = 2 * kUnit}, false),
        (std::vector<bool>{true, true, false, false}));
  });
}

TEST(UnitRunnerTest, PrefetchesInTheOrderOfTheLastPass) {
  OnTwoRanks([](const ParallelContext& context) {
    constexpr int64_t kUnit = kWidth * kWidth;
    Chain chain(context, {.prefetch_elements = 2 * kUnit, .persistence_threshold = 0}, 3);
    std::vector<std::vector<bool>> whole_within;
    for (int update = 0; update < 2; ++update) {
      whole_within.clear();
      chain.optimizer->BeginUpdate();
      chain.optimizer->BeginMicroBatch(0, true);
      at::Tensor x = Input(true);
      for (int i = 0; i < kLayers; ++i) {
        x = chain.runner.Run(i, {chain.pointers[i]}, {x}, [&](const TensorList& in) {
          whole_within.push_back(chain.Whole());
          return TensorList{Linear(in[0], *chain.parameters[i], nullptr)};
        })[0];
      }
      RunBackward({x.sum()}, {{}});
      EXPECT_EQ(chain.Whole(), kNone);
      chain.optimizer->Step(0.1);
    }
    EXPECT_EQ(whole_within[0], (std::vector<bool>{true, true, true, false}));
    EXPECT_EQ(whole_within[1], (std::vector<bool>{false, true, true, true}));
    EXPECT_EQ(whole_within[3], (std::vector<bool>{false, false, false, true}));
  });
}

}  // namespace
}  // namespace lathe
