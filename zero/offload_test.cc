// Training with states and weights on a disk against training in memory: the same bits, and the
// memory that is left.
#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
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
#include "lathe/layers/memory_meter.h"
#include "lathe/zero/disk_store.h"
#include "lathe/zero/rule_set.h"
#include "lathe/zero/unit_runner.h"
#include "lathe/zero/zero_optimizer.h"

namespace lathe {
namespace {

// Several stretches of 4096 elements in each layer, the last of them short.
constexpr int64_t kWidth = 160;
constexpr int kLayers = 3;

struct Offload {
  bool states = false, weights = false;
  int64_t weights_in_memory = 0;
};

struct Result {
  std::vector<at::Tensor> outputs, weights, exp_avgs;
  int64_t kept_bytes = 0;  // after an update
};

// Three updates of a chain of layers, of which the first is frozen, of two micro batches each.
Result Train(const ParallelContext& context, int stage, at::ScalarType dtype,
             const Offload& offload, const RuleSet& rules = AdamWRules({})) {
  const auto disk = DiskStore::Create(testing::TempDir(), {.queue_depth = 4});
  EXPECT_TRUE(disk.ok()) << disk.status();
  const int64_t before = MemoryMeter::current_bytes();
  std::vector<std::unique_ptr<Parameter>> parameters;
  std::vector<Parameter*> pointers;
  for (int i = 0; i < kLayers; ++i) {
    const std::vector<int64_t> shape = {kWidth, kWidth};
    parameters.push_back(std::make_unique<Parameter>(
        absl::StrCat("layers.", i, ".weight"), shape, ShardSpec::Whole(shape),
        at::empty(shape, at::TensorOptions(at::kMeta).dtype(dtype)), Initializer::Normal(0.1)));
    parameters.back()->set_unit(i);
    parameters.back()->set_trainable(i > 0);
    pointers.push_back(parameters.back().get());
  }
  ZeroUnits units({.persistence_threshold = 0});
  PlainRunner plain;
  UnitRunner runner(units, plain);
  ZeroOptions options{.stage = stage, .rules = rules, .reduce_bucket_elements = 20000};
  if (offload.states) options.offload_states = {.disk = disk->get(), .stretch_elements = 4096};
  if (offload.weights) {
    options.offload_weights = {.disk = disk->get(),
                               .elements_in_memory = offload.weights_in_memory};
  }
  ZeroOptimizer optimizer(pointers, options, context, &units);
  optimizer.FillMasters([](Parameter& p, const at::Tensor& to) { p.InitializeInto(to, 1); });
  optimizer.AfterLoad();
  Result result;
  for (int update = 0; update < 3; ++update) {
    optimizer.BeginUpdate();
    for (int i = 0; i < 2; ++i) {
      optimizer.BeginMicroBatch(i, i == 1);
      at::Tensor x = at::linspace(-1, 1 + i, 2 * kWidth, at::kDouble).view({2, kWidth}).to(dtype);
      for (int layer = 0; layer < kLayers; ++layer) {
        x = runner.Run(layer, {pointers[layer]}, {x}, [&](const TensorList& in) {
          return TensorList{Linear(in[0], *parameters[layer], nullptr).tanh()};
        })[0];
      }
      RunBackward({x.sum()}, {{}});
      result.outputs.push_back(x.detach());
    }
    optimizer.Step(0.01);
  }
  context.World().Barrier();
  result.kept_bytes = MemoryMeter::current_bytes() - before;
  context.World().Barrier();
  for (const NamedTensor& tensor : optimizer.Weights(dtype)) {
    for (const TensorPiece& piece : tensor.pieces) result.weights.push_back(piece.local.clone());
  }
  for (const NamedTensor& tensor : optimizer.States()) {
    if (!tensor.name.ends_with(".exp_avg")) continue;
    for (const TensorPiece& piece : tensor.pieces) result.exp_avgs.push_back(piece.local.clone());
  }
  return result;
}

void ExpectSameBits(const Result& a, const Result& b) {
  for (const auto of : {&Result::outputs, &Result::weights, &Result::exp_avgs}) {
    ASSERT_EQ((a.*of).size(), (b.*of).size());
    for (size_t i = 0; i < (a.*of).size(); ++i) EXPECT_TRUE(at::equal((a.*of)[i], (b.*of)[i])) << i;
  }
}

// Every rule that steps each element by itself, in stretches.
TEST(OffloadTest, EveryElementwiseOptimizer) {
  const auto context = ParallelContext::SingleProcess();
  for (const RuleSet& rules :
       {AdamRules({}), SgdRules({}), SgdRules({.momentum = 0.9}), LionRules({}),
        WithBf16States(AdamWRules({})), WithBf16States(LionRules({}))}) {
    SCOPED_TRACE(rules.name);
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const Result in_memory = Train(*context, 1, dtype, {}, rules);
      EXPECT_FALSE(at::equal(in_memory.outputs[0], in_memory.outputs[2])) << "it must train";
      ExpectSameBits(Train(*context, 1, dtype, {.states = true}, rules), in_memory);
    }
  }
}

// The others keep their states in memory, and step whole buckets of weights that are on a disk.
TEST(OffloadTest, WholeTensorsWithWeightsOnADisk) {
  const auto context = ParallelContext::SingleProcess();
  for (const RuleSet& rules :
       {MuonRules({}, {}), AdafactorRules({}), WithEightBitStates(AdamWRules({})),
        WithEightBitStates(LionRules({}))}) {
    SCOPED_TRACE(rules.name);
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const Result in_memory = Train(*context, 3, dtype, {}, rules);
      EXPECT_FALSE(at::equal(in_memory.outputs[0], in_memory.outputs[2])) << "it must train";
      ExpectSameBits(Train(*context, 3, dtype, {.weights = true}, rules), in_memory);
    }
  }
}

class OffloadRanksTest : public testing::TestWithParam<int> {};  // ranks

TEST_P(OffloadRanksTest, TheSameBitsAsInMemory) {
  RunThreadRanks(*ProcessMesh::Create({{"dp", GetParam()}}), [](const ParallelContext& context) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
      SCOPED_TRACE(at::toString(dtype));
      const Result in_memory = Train(context, 0, dtype, {});
      EXPECT_FALSE(at::equal(in_memory.outputs[0], in_memory.outputs[2])) << "it must train";
      for (const int stage : {1, 2, 3}) {
        const Result same_stage = Train(context, stage, dtype, {});
        ExpectSameBits(Train(context, stage, dtype, {.states = true}), same_stage);
      }
      const Result three = Train(context, 3, dtype, {});
      ExpectSameBits(Train(context, 3, dtype, {.weights = true}), three);
      ExpectSameBits(Train(context, 3, dtype, {.states = true, .weights = true}), three);
      ExpectSameBits(Train(context, 3, dtype,
                           {.states = true, .weights = true, .weights_in_memory = kWidth * kWidth}),
                     three);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, OffloadRanksTest, testing::Values(1, 2));

TEST(OffloadTest, WhatStaysInMemory) {
  MemoryMeter::Install();
  const auto kept = [](const Offload& offload) {
    return static_cast<double>(
        Train(*ParallelContext::SingleProcess(), 3, at::kBFloat16, offload).kept_bytes);
  };
  // Of two trainable layers and a frozen one: gradients are fp32. Outputs and the like are some KB.
  constexpr double kParameters = kWidth * kWidth;
  EXPECT_NEAR(kept({}), (2 * 18 + 2) * kParameters, 20e3);
  EXPECT_NEAR(kept({.states = true}), (2 * 6 + 2) * kParameters, 20e3);
  EXPECT_NEAR(kept({.states = true, .weights = true}), 2 * 4 * kParameters, 20e3);
}

}  // namespace
}  // namespace lathe
