// What each stage keeps per parameter, by the memory meter, and what it sends: the tables that the
// papers and the header give, within two percent.
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "ATen/ops/empty.h"
#include "ATen/ops/ones.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/block_runner.h"
#include "lathe/layers/linear.h"
#include "lathe/layers/memory_meter.h"
#include "lathe/zero/unit_runner.h"
#include "lathe/zero/zero_optimizer.h"

namespace lathe {
namespace {

// So many that a bucket, of which the transport's threads may hold one, is next to nothing.
constexpr int kMatrices = 64;
constexpr int64_t kWidth = 128;
constexpr int64_t kParameters = kMatrices * kWidth * kWidth;

struct Cost {
  double bytes = 0;  // kept per parameter and rank, before the optimizer's step
  double sent = 0;   // elements per parameter and rank in an update
};

// A chain of square matrices in bf16, trained for one update on every rank.
Cost Measure(int num_ranks, int stage, at::ScalarType grad_dtype, int num_micro_batches,
             Reshard reshard = Reshard::kAuto, const RuleSet& rules = AdamWRules({}),
             int num_frozen = 0) {
  MemoryMeter::Install();
  std::mutex mutex;
  Cost cost;
  const int64_t before = MemoryMeter::current_bytes();
  RunThreadRanks(*ProcessMesh::Create({{"dp", num_ranks}}), [&](const ParallelContext& context) {
    std::vector<std::unique_ptr<Parameter>> parameters;
    std::vector<Parameter*> pointers;
    for (int i = 0; i < kMatrices; ++i) {
      const std::vector<int64_t> shape = {kWidth, kWidth};
      parameters.push_back(std::make_unique<Parameter>(
          absl::StrCat("layers.", i, ".weight"), shape, ShardSpec::Whole(shape),
          at::empty(shape, at::kBFloat16), Initializer::Normal(0.02)));
      parameters.back()->set_unit(i);
      parameters.back()->set_trainable(i >= num_frozen);
      pointers.push_back(parameters.back().get());
    }
    ZeroUnits units({.reshard = reshard, .persistence_threshold = 0});
    PlainRunner plain;
    UnitRunner runner(units, plain);
    ZeroOptimizer optimizer(pointers,
                            {.stage = stage,
                             .rules = rules,
                             .reduce_bucket_elements = kWidth * kWidth,
                             .grad_dtype = grad_dtype},
                            context, &units);
    optimizer.FillMasters(
        [](Parameter& p, const at::Tensor& values) { p.InitializeInto(values, 1); });
    optimizer.AfterLoad();
    context.World().Barrier();
    const uint64_t sent_before = context.Group({"dp"}).bytes_sent();
    optimizer.BeginUpdate();
    for (int i = 0; i < num_micro_batches; ++i) {
      optimizer.BeginMicroBatch(i, i + 1 == num_micro_batches);
      // As a model's activations behind an embedding do, it requires a gradient.
      at::Tensor x = at::ones({4, kWidth}, at::kBFloat16).set_requires_grad(true);
      for (int layer = 0; layer < kMatrices; ++layer) {
        x = runner.Run(layer, {pointers[layer]}, {x}, [&](const TensorList& in) {
          return TensorList{Linear(in[0], *parameters[layer], nullptr)};
        })[0];
      }
      RunBackward({x.sum()}, {{}});
    }
    optimizer.FinishGradients();
    context.World().Barrier();
    if (context.rank() == 0) {
      const auto bytes = static_cast<double>(MemoryMeter::current_bytes() - before);
      cost.bytes = bytes / num_ranks / static_cast<double>(kParameters);
    }
    context.World().Barrier();
    optimizer.Step(1e-3);
    const auto sent = static_cast<double>(context.Group({"dp"}).bytes_sent() - sent_before);
    // Gradients and weights in the same type.
    std::lock_guard<std::mutex> lock(mutex);
    cost.sent = sent / 2 / static_cast<double>(kParameters);
  });
  return cost;
}

class ZeroCostTest : public testing::TestWithParam<int> {};

TEST_P(ZeroCostTest, BytesPerParameter) {
  const double n = GetParam();
  const auto near = [](double bytes, double formula) {
    EXPECT_NEAR(bytes, formula, 0.02 * formula);
  };
  const auto bytes = [&](int stage, at::ScalarType grad_dtype) {
    return Measure(GetParam(), stage, grad_dtype, 1).bytes;
  };
  near(bytes(0, at::kFloat), 18);
  near(bytes(1, at::kFloat), 6 + 12 / n);
  near(bytes(2, at::kFloat), 2 + 16 / n);
  near(bytes(3, at::kFloat), 18 / n);
  near(bytes(0, at::kBFloat16), 16);
  near(bytes(1, at::kBFloat16), 4 + 12 / n);
  near(bytes(2, at::kBFloat16), 2 + 14 / n);
  near(bytes(3, at::kBFloat16), 16 / n);
}

TEST_P(ZeroCostTest, ElementsSent) {
  const double n = GetParam(), share = (n - 1) / n;
  for (const int m : {1, 3}) {
    // Beside them the gradient's norm, some bytes.
    const auto sent = [&](int stage, Reshard reshard = Reshard::kAuto) {
      return Measure(GetParam(), stage, at::kBFloat16, m, reshard).sent;
    };
    EXPECT_NEAR(sent(0), 2 * share, 1e-3);
    EXPECT_NEAR(sent(1), 2 * share, 1e-3);
    EXPECT_NEAR(sent(2), (m + 1) * share, 1e-3);
    EXPECT_NEAR(sent(3, Reshard::kAlways), 3 * m * share, 1e-3);
    EXPECT_NEAR(sent(3, Reshard::kNever), (m + 1) * share, 1e-3);
    EXPECT_NEAR(sent(3), m == 1 ? 3 * share : (m + 1) * share, 1e-3);
  }
}

// Half of the weights frozen: of those there are the weights alone, sent only to be gathered.
TEST_P(ZeroCostTest, FrozenParametersCostNothing) {
  const double n = GetParam(), share = (n - 1) / n;
  const auto with_half_frozen = [&](int stage) {
    return Measure(GetParam(), stage, at::kFloat, 1, Reshard::kAuto, AdamWRules({}), kMatrices / 2);
  };
  const double trained[] = {18, 6 + 12 / n, 2 + 16 / n, 18 / n};
  const double frozen[] = {2, 2, 2, 2 / n};
  for (int stage = 0; stage <= 3; ++stage) {
    const double formula = (trained[stage] + frozen[stage]) / 2;
    EXPECT_NEAR(with_half_frozen(stage).bytes, formula, 0.02 * formula) << "stage " << stage;
  }
  // The trained half's gradients, in fp32 twice a weight's bytes, and its weights.
  EXPECT_NEAR(with_half_frozen(2).sent, 1.5 * share, 1e-3);
}

// What docs/optimizers.md says: bf16 weights, fp32 gradients and masters are 10 bytes, states come
// on top. On one rank: shards of whole tensors, here one to a unit, would be padded.
TEST(OptimizerCostTest, BytesPerParameter) {
  const double block = 4.0 / kStateBlock;  // an fp32 scale
  const std::pair<RuleSet, double> cases[] = {
      {AdamWRules({}), 8},
      {WithBf16States(AdamWRules({})), 4},
      {WithEightBitStates(AdamWRules({})), 2 + 2 * block},
      {SgdRules({}), 0},
      {SgdRules({.momentum = 0.9}), 4},
      {LionRules({}), 4},
      {WithBf16States(LionRules({})), 2},
      {WithEightBitStates(LionRules({})), 1 + block},
      {MuonRules({}, {}), 4},
      {AdafactorRules({}), 2 * 4.0 / kWidth},
  };
  for (const auto& [rules, states] : cases) {
    const double bytes = Measure(1, 0, at::kFloat, 1, Reshard::kAuto, rules).bytes;
    EXPECT_NEAR(bytes - 10, states, 0.02 * states + 0.03) << rules.name << " of " << states;
  }
  // Shards of blocks.
  const RuleSet rules = WithEightBitStates(AdamWRules({}));
  const double n = 4;
  const double bytes = Measure(4, 2, at::kFloat, 1, Reshard::kAuto, rules).bytes;
  const double formula = 2 + (8 + 2 + 2 * block) / n;
  EXPECT_NEAR(bytes, formula, 0.02 * formula);
}

INSTANTIATE_TEST_SUITE_P(Ranks, ZeroCostTest, testing::Values(2, 4));

}  // namespace
}  // namespace lathe
