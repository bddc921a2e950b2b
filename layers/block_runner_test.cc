// Recomputation against running plainly, to the bit.
#include "lathe/layers/block_runner.h"

#include <cstdint>
#include <memory>
#include <vector>

#include "ATen/ops/empty.h"
#include "ATen/ops/mul.h"
#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "lathe/base/random.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/gradient_sink.h"
#include "lathe/layers/linear.h"
#include "lathe/layers/relative_error.h"

namespace lathe {
namespace {

at::Tensor Values(std::vector<int64_t> shape, const char* name) {
  Parameter values(name, shape, ShardSpec::Whole(shape), at::empty(shape, at::kDouble),
                   Initializer::Normal(1));
  values.Initialize(7);
  return values.tensor().detach().clone();
}

std::unique_ptr<Parameter> MakeParameter(const char* name, std::vector<int64_t> shape,
                                         GradientSink* sink) {
  auto parameter = std::make_unique<Parameter>(
      name, shape, ShardSpec::Whole(shape), at::empty(shape, at::kDouble), Initializer::Normal(1));
  parameter->Initialize(11);
  parameter->set_sink(sink);
  return parameter;
}

TEST(RecomputeTest, BitEqualToPlainAlsoWithFrozenWeights) {
  for (bool frozen : {false, true}) {
    at::Tensor grads[2], x_grads[2];
    for (bool recompute : {false, true}) {
      MainGradSink sink;
      auto a = MakeParameter("a", {8, 8}, &sink), b = MakeParameter("b", {8, 8}, &sink);
      a->set_trainable(!frozen);
      b->set_trainable(!frozen);
      PlainRunner plain;
      RecomputeRunner recomputing(plain);
      BlockRunner& runner = recompute ? static_cast<BlockRunner&>(recomputing) : plain;
      int runs = 0;
      at::Tensor x = Values({5, 8}, "x").set_requires_grad(frozen);
      at::Tensor h = x;
      for (Parameter* w : {a.get(), b.get()}) {
        h = runner.Run(0, {w}, {h}, [w, &runs](const TensorList& in) {
          ++runs;
          return TensorList{Linear(in[0], *w, nullptr).tanh()};
        })[0];
      }
      EXPECT_EQ(runs, 2);
      RunBackward({h}, {Values({5, 8}, "dy")});
      EXPECT_EQ(runs, recompute ? 4 : 2);
      grads[recompute] = a->main_grad;
      x_grads[recompute] = x.grad();
    }
    if (frozen) {
      EXPECT_EQ(RelativeError(x_grads[1], x_grads[0]), 0);
    } else {
      EXPECT_EQ(RelativeError(grads[1], grads[0]), 0);
    }
  }
}

TEST(RecomputeTest, NothingIsRecordedWithoutGradMode) {
  PlainRunner plain;
  RecomputeRunner recompute(plain);
  at::NoGradGuard no_grad;
  const at::Tensor x = Values({2, 3}, "x");
  const TensorList y =
      recompute.Run(0, {}, {x}, [](const TensorList& in) { return TensorList{in[0].mul(2)}; });
  EXPECT_FALSE(y[0].requires_grad());
}

// Every base weight is frozen and the input needs no gradient; the adapter beside them is trained.
TEST(RecomputeTest, RunsAgainForAnAdapterAlone) {
  at::Tensor grads[2];
  for (bool recompute : {false, true}) {
    MainGradSink sink;
    auto base = MakeParameter("base", {8, 8}, &sink), adapter = MakeParameter("a", {8, 8}, &sink);
    base->set_trainable(false);
    PlainRunner plain;
    RecomputeRunner recomputing(plain);
    BlockRunner& runner = recompute ? static_cast<BlockRunner&>(recomputing) : plain;
    int runs = 0;
    const at::Tensor y = runner.Run(
        0, {base.get(), adapter.get()}, {Values({5, 8}, "x")}, [&](const TensorList& in) {
          ++runs;
          const at::Tensor h = Linear(in[0], *base, nullptr);
          return TensorList{h.add(Linear(h.tanh(), *adapter, nullptr)).tanh()};
        })[0];
    RunBackward({y}, {Values({5, 8}, "dy")});
    EXPECT_EQ(runs, recompute ? 2 : 1);
    EXPECT_FALSE(base->main_grad.defined());
    EXPECT_EQ(adapter->pending_uses(), 0);
    grads[recompute] = adapter->main_grad;
  }
  EXPECT_EQ(RelativeError(grads[1], grads[0]), 0);
}

// Dropout whose mask is a function of step and layer: both runs of a block draw the same.
TEST(RecomputeTest, KeyedStreamsReplay) {
  at::Tensor outputs[2], grads[2];
  for (bool recompute : {false, true}) {
    MainGradSink sink;
    auto weight = MakeParameter("w", {8, 8}, &sink);
    PlainRunner plain;
    RecomputeRunner recomputing(plain);
    BlockRunner& runner = recompute ? static_cast<BlockRunner&>(recomputing) : plain;
    std::vector<at::Tensor> masks;
    at::Tensor h = Values({16, 8}, "x");
    for (uint64_t layer = 0; layer < 2; ++layer) {
      const KeyedStream stream(/*seed=*/42, "dropout", {/*step=*/3, layer});
      h = runner.Run(
          static_cast<int>(layer), {weight.get()}, {h}, [&, stream](const TensorList& in) {
            const at::Tensor keep = at::empty(in[0].sizes(), at::kByte);
            stream.FillBernoulli(0.7, 0, absl::MakeSpan(keep.data_ptr<uint8_t>(), keep.numel()));
            masks.push_back(keep);
            return TensorList{Linear(in[0].mul(keep), *weight, nullptr).tanh()};
          })[0];
    }
    RunBackward({h}, {Values({16, 8}, "dy")});
    ASSERT_EQ(masks.size(), recompute ? 4u : 2u);
    EXPECT_FALSE(masks[0].equal(masks[1]));
    if (recompute) {
      EXPECT_TRUE(masks[2].equal(masks[1]));  // backward begins with the last layer
      EXPECT_TRUE(masks[3].equal(masks[0]));
    }
    outputs[recompute] = h.detach();
    grads[recompute] = weight->main_grad;
  }
  EXPECT_EQ(RelativeError(outputs[1], outputs[0]), 0);
  EXPECT_EQ(RelativeError(grads[1], grads[0]), 0);
}

TEST(RecomputeTest, OnlyTheFirstBlocks) {
  MainGradSink sink;
  auto weight = MakeParameter("w", {8, 8}, &sink);
  PlainRunner plain;
  RecomputeRunner runner(plain, /*num_blocks=*/2);
  std::vector<int> runs(3);
  at::Tensor h = Values({5, 8}, "x");
  for (int block = 0; block < 3; ++block) {
    h = runner.Run(block, {weight.get()}, {h}, [&, block](const TensorList& in) {
      ++runs[block];
      return TensorList{Linear(in[0], *weight, nullptr).tanh()};
    })[0];
  }
  RunBackward({h}, {Values({5, 8}, "dy")});
  EXPECT_EQ(runs, (std::vector<int>{2, 2, 1}));
}

}  // namespace
}  // namespace lathe
