// Each layer against the plain formula under LibTorch's own autograd, in fp64: output, input
// gradient, weight gradients, with the default sink and with one that defers, accumulated over two
// uses.
#include <functional>
#include <memory>
#include <vector>

#include "ATen/ops/addmm.h"
#include "ATen/ops/arange.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/index_select.h"
#include "ATen/ops/linear.h"
#include "ATen/ops/mul.h"
#include "ATen/ops/randn.h"
#include "ATen/ops/rsqrt.h"
#include "ATen/ops/tensor.h"
#include "gtest/gtest.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/embedding.h"
#include "lathe/layers/gradient_sink.h"
#include "lathe/layers/linear.h"
#include "lathe/layers/relative_error.h"
#include "lathe/layers/rms_norm.h"

namespace lathe {
namespace {

constexpr double kTolerance = 1e-13;  // fp64 rounding of sums of a few dozen terms

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

// Runs ours twice (two micro batches) and the reference twice, and compares everything.
void Compare(const std::function<at::Tensor(const at::Tensor&, std::vector<Parameter*>)>& ours,
             const std::function<at::Tensor(const at::Tensor&, std::vector<at::Tensor>)>& reference,
             std::vector<int64_t> input_shape, std::vector<std::vector<int64_t>> parameter_shapes) {
  for (bool defer : {false, true}) {
    MainGradSink main_sink;
    DeferringSink deferring(main_sink);
    int ready = 0;
    main_sink.set_on_ready([&](Parameter&) { ++ready; });
    std::vector<std::unique_ptr<Parameter>> owned;
    std::vector<Parameter*> parameters;
    std::vector<at::Tensor> weights;
    for (size_t i = 0; i < parameter_shapes.size(); ++i) {
      GradientSink* sink = defer ? static_cast<GradientSink*>(&deferring) : &main_sink;
      owned.push_back(MakeParameter(i == 0 ? "w" : "b", parameter_shapes[i], sink));
      parameters.push_back(owned.back().get());
      weights.push_back(parameters.back()->tensor().detach().clone().set_requires_grad(true));
    }
    for (int micro_batch = 0; micro_batch < 2; ++micro_batch) {
      main_sink.BeginMicroBatch(/*last=*/micro_batch == 1);
      const at::Tensor x =
          Values(input_shape, micro_batch == 0 ? "x0" : "x1").set_requires_grad(true);
      const at::Tensor rx = x.detach().clone().set_requires_grad(true);
      const at::Tensor y = ours(x, parameters);
      const at::Tensor ry = reference(rx, weights);
      EXPECT_LT(RelativeError(y, ry), kTolerance);
      const at::Tensor dy = Values(y.sizes().vec(), "dy");
      RunBackward({y}, {dy});
      RunBackward({ry}, {dy});
      EXPECT_LT(RelativeError(x.grad(), rx.grad()), kTolerance);
    }
    if (defer) {
      EXPECT_EQ(deferring.size(), 2 * parameters.size());
      EXPECT_FALSE(parameters[0]->grad_written());
      deferring.RunAll();
    }
    for (size_t i = 0; i < parameters.size(); ++i) {
      EXPECT_LT(RelativeError(parameters[i]->main_grad, weights[i].grad()), kTolerance) << i;
      EXPECT_EQ(parameters[i]->pending_uses(), 0);
      EXPECT_FALSE(parameters[i]->tensor().grad().defined());
    }
    EXPECT_EQ(ready, static_cast<int>(parameters.size()));
  }
}

TEST(LinearTest, EqualsThePlainFormula) {
  Compare([](const at::Tensor& x, std::vector<Parameter*> p) { return Linear(x, *p[0], nullptr); },
          [](const at::Tensor& x, std::vector<at::Tensor> w) { return at::linear(x, w[0]); },
          {2, 5, 7}, {{3, 7}});
}

TEST(LinearTest, WithBias) {
  Compare([](const at::Tensor& x, std::vector<Parameter*> p) { return Linear(x, *p[0], p[1]); },
          [](const at::Tensor& x, std::vector<at::Tensor> w) { return at::linear(x, w[0], w[1]); },
          {4, 7}, {{3, 7}, {3}});
}

TEST(RmsNormTest, EqualsThePlainFormula) {
  Compare([](const at::Tensor& x, std::vector<Parameter*> p) { return RmsNorm(x, *p[0], 1e-5); },
          [](const at::Tensor& x, std::vector<at::Tensor> w) {
            return at::mul(w[0], at::mul(x, at::rsqrt(x.square().mean(-1, true).add(1e-5))));
          },
          {3, 4, 9}, {{9}});
}

TEST(LinearTest, FrozenWeightsCostNothing) {
  MainGradSink sink;
  auto weight = MakeParameter("w", {3, 7}, &sink);
  weight->set_trainable(false);
  const at::Tensor x = Values({4, 7}, "x").set_requires_grad(true);
  RunBackward({Linear(x, *weight, nullptr).sum()}, {{}});
  EXPECT_TRUE(x.grad().defined());
  EXPECT_FALSE(weight->main_grad.defined());
  EXPECT_FALSE(Linear(x.detach(), *weight, nullptr).requires_grad());
}

TEST(EmbeddingTest, EqualsThePlainFormulaAndMasksForeignRows) {
  MainGradSink sink;
  auto table = MakeParameter("table", {6, 4}, &sink);
  const at::Tensor ids =
      at::tensor({3, 9, 8, 3, 12, 4}, at::kLong).view({2, 3});  // rows 3..8 are here
  const at::Tensor y = Embedding(ids, *table, /*first_row=*/3);
  ASSERT_EQ(y.sizes().vec(), (std::vector<int64_t>{2, 3, 4}));
  EXPECT_EQ(y[0][1].abs().sum().item().toDouble(), 0);
  EXPECT_EQ(y[1][1].abs().sum().item().toDouble(), 0);
  EXPECT_EQ(RelativeError(y[1][0], table->tensor()[0]), 0);
  EXPECT_EQ(RelativeError(y[0][2], table->tensor()[5]), 0);
  const at::Tensor dy = Values({2, 3, 4}, "dy");
  RunBackward({y}, {dy});
  EXPECT_LT(RelativeError(table->main_grad[0], dy[0][0].add(dy[1][0])), kTolerance);
  EXPECT_LT(RelativeError(table->main_grad[5], dy[0][2]), kTolerance);
  EXPECT_EQ(table->main_grad[2].abs().sum().item().toDouble(), 0);
}

TEST(ParameterTest, InitialisationDoesNotDependOnTheLayout) {
  for (at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    Parameter whole("w", {6, 5}, ShardSpec::Whole({6, 5}), at::empty({6, 5}, type),
                    Initializer::Normal(0.02));
    whole.Initialize(42);
    for (int dim : {0, 1}) {
      // Shards with two rows or columns of padding each.
      std::vector<int64_t> shape{6, 5};
      shape[dim] = 4;
      Parameter part("w", {6, 5}, ShardSpec::Slice({6, 5}, dim, 3, 2), at::empty(shape, type),
                     Initializer::Normal(0.02));
      part.Initialize(42);
      EXPECT_EQ(RelativeError(part.tensor().narrow(dim, 0, 2), whole.tensor().narrow(dim, 3, 2)),
                0);
      EXPECT_EQ(part.tensor().narrow(dim, 2, 2).abs().max().item().toDouble(), 0);
    }
    Parameter other_name("v", {6, 5}, ShardSpec::Whole({6, 5}), at::empty({6, 5}, type),
                         Initializer::Normal(0.02));
    other_name.Initialize(42);
    EXPECT_GT(RelativeError(other_name.tensor(), whole.tensor()), 0.1);
  }
}

TEST(ParameterTest, MoveToKeepsValuesAndIdentity) {
  MainGradSink sink;
  auto weight = MakeParameter("w", {2, 3}, &sink);
  const at::Tensor before = weight->tensor().detach().clone(), held = weight->tensor();
  const at::Tensor flat = at::empty({10}, at::kDouble);
  weight->MoveTo(flat.narrow(0, 2, 6).view({2, 3}));
  EXPECT_EQ(RelativeError(weight->tensor(), before), 0);
  flat.fill_(1);
  EXPECT_EQ(held.sum().item().toDouble(), 6);
  EXPECT_TRUE(weight->trainable());
}

}  // namespace
}  // namespace lathe
