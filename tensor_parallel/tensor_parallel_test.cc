// Every layer and both forms of the head at degrees 1, 2 and 4, threads as ranks, against the plain
// formula under LibTorch's own autograd, in fp64: outputs, input gradients, weight gradients, with
// the default sink and with one that defers every weight gradient.
#include <algorithm>
#include <memory>
#include <optional>
#include <tuple>
#include <vector>

#include "ATen/ops/arange.h"
#include "ATen/ops/embedding.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/linear.h"
#include "ATen/ops/log_softmax.h"
#include "ATen/ops/mul.h"
#include "ATen/ops/zeros.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/gradient_sink.h"
#include "lathe/layers/relative_error.h"
#include "lathe/tensor_parallel/column_parallel_linear.h"
#include "lathe/tensor_parallel/regions.h"
#include "lathe/tensor_parallel/row_parallel_linear.h"
#include "lathe/tensor_parallel/vocab_parallel_embedding.h"
#include "lathe/tensor_parallel/vocab_parallel_head.h"

namespace lathe {
namespace {

constexpr double kTolerance = 1e-12;  // fp64 rounding of sums in another order

at::Tensor Values(const std::string& name, std::vector<int64_t> shape) {
  Parameter values(name, shape, ShardSpec::Whole(shape), at::empty(shape, at::kDouble),
                   Initializer::Normal(1));
  values.Initialize(5);
  return values.tensor().detach().clone();
}

// The whole tensor of which `p` is a shard, as a reference leaf.
at::Tensor Whole(const Parameter& p) {
  return Values(p.name(), p.full_shape()).set_requires_grad(true);
}

// p's gradient against the same region of the whole one; padding must have none.
void ExpectShardOf(const Parameter& p, const at::Tensor& whole) {
  ASSERT_TRUE(p.main_grad.defined()) << p.name();
  double accounted = 0;
  for (const ShardPiece& piece : p.shard().pieces) {
    at::Tensor mine = p.main_grad, reference = whole;
    for (int dim = 0; dim < piece.logical.num_dims(); ++dim) {
      mine = mine.narrow(dim, piece.local_offset[dim], piece.logical.length[dim]);
      reference = reference.narrow(dim, piece.logical.offset[dim], piece.logical.length[dim]);
    }
    EXPECT_LT(RelativeError(mine, reference), kTolerance) << p.name();
    accounted += mine.abs().sum().item().toDouble();
  }
  EXPECT_NEAR(p.main_grad.abs().sum().item().toDouble(), accounted, 1e-9)
      << p.name() << ": padding";
}

class TensorParallelTest : public testing::TestWithParam<std::tuple<int, bool>> {
 protected:
  struct Rank {
    const Communicator& tp;
    MainGradSink main_sink;
    DeferringSink deferring{main_sink};
    bool defer;

    void Prepare(std::vector<Parameter*> parameters) {
      for (Parameter* p : parameters) {
        p->Initialize(5);
        p->set_sink(defer ? static_cast<GradientSink*>(&deferring) : &main_sink);
      }
    }

    // As the optimizer does.
    void SumParts(const std::vector<Parameter*>& parameters) {
      for (Parameter* p : parameters) {
        for (const PartialSum& sum : p->partial_sums()) {
          tp.AllReduceInBlocks(p->main_grad, sum.block == 0 ? tp.size() : sum.block);
        }
      }
    }
  };

  void Run(const std::function<void(Rank&)>& body) {
    const auto [degree, defer] = GetParam();
    RunThreadRanks(*ProcessMesh::Create({{"tp", degree}}),
                   [&, defer = defer](const ParallelContext& context) {
                     Rank rank{.tp = context.Group({"tp"}), .defer = defer};
                     body(rank);
                   });
  }
};

TEST_P(TensorParallelTest, ColumnThenRowIsAnMlp) {
  Run([](Rank& rank) {
    for (bool bias : {false, true}) {
      ColumnParallelLinear up(
          {.name = "up", .in = 6, .out = 8, .bias = bias, .init = Initializer::Normal(1)}, rank.tp,
          at::kDouble);
      RowParallelLinear down(
          {.name = "down", .in = 8, .out = 5, .bias = bias, .init = Initializer::Normal(1)},
          rank.tp, at::kDouble);
      std::vector<Parameter*> parameters = up.parameters();
      for (Parameter* p : down.parameters()) parameters.push_back(p);
      rank.Prepare(parameters);
      const at::Tensor x = Values("x", {2, 3, 6}).set_requires_grad(true);
      const at::Tensor y = down.Forward(up.Forward(x).tanh());
      RunBackward({y}, {Values("dy", {2, 3, 5})});
      rank.deferring.RunAll();

      const at::Tensor rx = x.detach().clone().set_requires_grad(true);
      std::vector<at::Tensor> w;
      for (Parameter* p : parameters) {
        w.push_back(p->name().ends_with("bias")
                        ? at::zeros(p->full_shape(), at::kDouble).set_requires_grad(true)
                        : Whole(*p));
      }
      const at::Tensor ry = bias ? at::linear(at::linear(rx, w[0], w[1]).tanh(), w[2], w[3])
                                 : at::linear(at::linear(rx, w[0]).tanh(), w[1]);
      RunBackward({ry}, {Values("dy", {2, 3, 5})});
      EXPECT_LT(RelativeError(y, ry), kTolerance);
      EXPECT_LT(RelativeError(x.grad(), rx.grad()), kTolerance);
      for (size_t i = 0; i < w.size(); ++i) ExpectShardOf(*parameters[i], w[i].grad());
    }
  });
}

TEST_P(TensorParallelTest, RegionOperatorsAreConjugate) {
  Run([](Rank& rank) {
    const int n = rank.tp.size(), me = rank.tp.rank();
    const at::Tensor x = Values("x", {3, 8}).set_requires_grad(true);
    const at::Tensor part = ScatterToRegion(x, rank.tp);
    EXPECT_EQ(part.size(1), 8 / n);
    EXPECT_EQ(RelativeError(part, x.narrow(1, me * 8 / n, 8 / n)), 0);
    const at::Tensor back = GatherFromRegion(part.mul(2), rank.tp);
    EXPECT_EQ(RelativeError(back, x.mul(2)), 0);
    RunBackward({back}, {Values("dy", {3, 8})});
    EXPECT_EQ(RelativeError(x.grad(), Values("dy", {3, 8}).mul(2)), 0);

    const at::Tensor z = Values("z", {4}).set_requires_grad(true);
    RunBackward({CopyToRegion(z, rank.tp)}, {Values("dz", {4})});
    EXPECT_LT(RelativeError(z.grad(), Values("dz", {4}).mul(n)), kTolerance);
    const at::Tensor r = Values("r", {4}).set_requires_grad(true);
    const at::Tensor sum = ReduceFromRegion(r, rank.tp);
    EXPECT_LT(RelativeError(sum, r.mul(n)), kTolerance);
    RunBackward({sum}, {Values("dr", {4})});
    EXPECT_EQ(RelativeError(r.grad(), Values("dr", {4})), 0);
  });
}

TEST_P(TensorParallelTest, SequenceRegionOperatorsAreConjugate) {
  Run([](Rank& rank) {
    const int n = rank.tp.size(), part = 8 / n, first = rank.tp.rank() * part;
    const at::Tensor whole = Values("x", {2, 8, 3}), gradient = Values("dy", {2, 8, 3});
    const at::Tensor x = whole.narrow(1, first, part).clone().set_requires_grad(true);
    const at::Tensor y = GatherFromSequenceRegion(x, rank.tp);
    EXPECT_EQ(RelativeError(y, whole), 0);
    RunBackward({y}, {gradient});
    EXPECT_LT(RelativeError(x.grad(), gradient.narrow(1, first, part).mul(n)), kTolerance);

    const at::Tensor z = whole.clone().set_requires_grad(true);
    const at::Tensor sum = ReduceScatterToSequenceRegion(z, rank.tp);
    EXPECT_LT(RelativeError(sum, whole.narrow(1, first, part).mul(n)), kTolerance);
    RunBackward({sum}, {gradient.narrow(1, first, part).clone()});
    EXPECT_EQ(RelativeError(z.grad(), gradient), 0);
  });
}

// A whole MLP on a split sequence: input, output and their gradients are this rank's part.
TEST_P(TensorParallelTest, SequenceParallelMlp) {
  Run([](Rank& rank) {
    const int part = 4 / rank.tp.size(), first = rank.tp.rank() * part;
    ColumnParallelLinear up({.name = "up",
                             .in = 6,
                             .out = 8,
                             .bias = true,
                             .init = Initializer::Normal(1),
                             .sequence_parallel = true},
                            rank.tp, at::kDouble);
    RowParallelLinear down({.name = "down",
                            .in = 8,
                            .out = 5,
                            .bias = true,
                            .init = Initializer::Normal(1),
                            .sequence_parallel = true},
                           rank.tp, at::kDouble);
    std::vector<Parameter*> parameters = up.parameters();
    for (Parameter* p : down.parameters()) parameters.push_back(p);
    rank.Prepare(parameters);
    const at::Tensor rx = Values("x", {2, 4, 6}).set_requires_grad(true);
    const at::Tensor dy = Values("dy", {2, 4, 5});
    const at::Tensor x = rx.detach().narrow(1, first, part).clone().set_requires_grad(true);
    const at::Tensor y = down.Forward(up.Forward(x).tanh());
    RunBackward({y}, {dy.narrow(1, first, part).clone()});
    rank.deferring.RunAll();
    rank.SumParts(parameters);

    std::vector<at::Tensor> w;
    for (Parameter* p : parameters) {
      w.push_back(p->name().ends_with("bias")
                      ? at::zeros(p->full_shape(), at::kDouble).set_requires_grad(true)
                      : Whole(*p));
    }
    const at::Tensor ry = at::linear(at::linear(rx, w[0], w[1]).tanh(), w[2], w[3]);
    RunBackward({ry}, {dy});
    EXPECT_LT(RelativeError(y, ry.narrow(1, first, part)), kTolerance);
    EXPECT_LT(RelativeError(x.grad(), rx.grad().narrow(1, first, part)), kTolerance);
    for (size_t i = 0; i < w.size(); ++i) ExpectShardOf(*parameters[i], w[i].grad());
  });
}

// Three layers with one input, of which the second has at most two slices: over four ranks, each is
// on two, whose gradients of it add up. One all-reduce in backward.
TEST_P(TensorParallelTest, ColumnLayersTogetherWithSharedSlices) {
  Run([](Rank& rank) {
    const int n = rank.tp.size(), slices = std::min(n, 2), width = 4 / slices;
    const auto layer = [&](const char* name, int64_t out, int num_slices) {
      return ColumnParallelLinear({.name = name,
                                   .in = 6,
                                   .out = out,
                                   .bias = true,
                                   .init = Initializer::Normal(1),
                                   .num_slices = num_slices},
                                  rank.tp, at::kDouble);
    };
    ColumnParallelLinear q = layer("q", 8, 0), k = layer("k", 4, slices);
    std::vector<Parameter*> parameters = q.parameters();
    for (Parameter* p : k.parameters()) parameters.push_back(p);
    rank.Prepare(parameters);
    EXPECT_EQ(k.weight().shard().replica, n == 4 ? rank.tp.rank() % 2 : 0);
    const at::Tensor x = Values("x", {2, 3, 6}).set_requires_grad(true);
    const TensorList y = ColumnParallelLinear::ForwardTogether({&q, &k}, x);
    const at::Tensor dq = Values("dq", {2, 3, 8});
    const int my_slice = rank.tp.rank() * slices / n;
    const auto dk = [&](int r) { return Values(absl::StrCat("dk", r), {2, 3, width}); };
    const uint64_t before = rank.tp.bytes_sent();
    RunBackward(y, {dq.narrow(2, rank.tp.rank() * 8 / n, 8 / n).clone(), dk(rank.tp.rank())});
    EXPECT_EQ(rank.tp.bytes_sent() - before, 2 * x.nbytes() * (n - 1) / n);
    rank.deferring.RunAll();
    rank.SumParts(parameters);

    const at::Tensor rx = x.detach().clone().set_requires_grad(true);
    const at::Tensor wq = Whole(q.weight()), wk = Whole(k.weight());
    const at::Tensor bk = at::zeros({4}, at::kDouble).set_requires_grad(true);
    const at::Tensor rq = at::linear(rx, wq), rk = at::linear(rx, wk, bk);
    at::Tensor whole_dk = at::zeros({2, 3, 4}, at::kDouble);
    for (int r = 0; r < n; ++r) whole_dk.narrow(2, r * slices / n * width, width).add_(dk(r));
    RunBackward({rq, rk}, {dq, whole_dk});
    EXPECT_LT(RelativeError(y[1], rk.narrow(2, my_slice * width, width)), kTolerance);
    EXPECT_LT(RelativeError(x.grad(), rx.grad()), kTolerance);
    ExpectShardOf(q.weight(), wq.grad());
    ExpectShardOf(k.weight(), wk.grad());
    ExpectShardOf(*k.parameters()[1], bk.grad());
  });
}

// 11 rows over 4 ranks: 3 each, the last has one of padding.
TEST_P(TensorParallelTest, EmbeddingWithPaddedVocabulary) {
  Run([](Rank& rank) {
    VocabParallelEmbedding embed("embed", 11, 4, Initializer::Normal(1), rank.tp, at::kDouble);
    Parameter& weight = *embed.shard().weight;
    rank.Prepare({&weight});
    const at::Tensor ids = at::arange(0, 22, at::kLong).remainder(11).view({2, 11});
    const at::Tensor y = embed.Forward(ids);
    RunBackward({y}, {Values("dy", {2, 11, 4})});
    rank.deferring.RunAll();
    const at::Tensor w = Whole(weight);
    const at::Tensor ry = at::embedding(w, ids);
    RunBackward({ry}, {Values("dy", {2, 11, 4})});
    EXPECT_LT(RelativeError(y, ry), kTolerance);
    ExpectShardOf(weight, w.grad());
  });
}

at::Tensor ReferenceLogProbs(const at::Tensor& hidden, const at::Tensor& w,
                             const at::Tensor& targets) {
  return at::log_softmax(at::linear(hidden, w), 1).gather(1, targets.unsqueeze(1)).squeeze(1);
}

// More tokens than a chunk, so that chunks accumulate.
TEST_P(TensorParallelTest, WeightedCrossEntropy) {
  Run([](Rank& rank) {
    constexpr int64_t kTokens = 600;
    VocabShard shard =
        VocabShard::Create("head", 11, 4, Initializer::Normal(1), rank.tp, at::kDouble);
    rank.Prepare({shard.weight.get()});
    VocabParallelHead head(shard, rank.tp);
    at::Tensor targets = at::arange(0, kTokens, at::kLong).remainder(11);
    at::Tensor weights = Values("weights", {kTokens}).abs();
    // A label that is ignored has weight 0 and may be anything.
    const at::Tensor ignored = at::arange(0, kTokens, at::kLong).remainder(3).eq(1);
    for (bool mask : {false, true}) {
      const at::Tensor row_weights = mask ? weights.masked_fill(ignored, 0) : weights;
      const at::Tensor row_targets = mask ? targets.masked_fill(ignored, -100) : targets;
      shard.weight->set_grad_written(false);
      const at::Tensor hidden = Values("hidden", {kTokens, 4}).set_requires_grad(true);
      const at::Tensor loss = head.WeightedCrossEntropy(hidden, row_targets, row_weights);
      RunBackward({loss}, {{}});
      EXPECT_EQ(rank.deferring.size(), 0u) << "the head's weight gradient must not be kept";

      const at::Tensor w = Whole(*shard.weight);
      const at::Tensor rh = hidden.detach().clone().set_requires_grad(true);
      const at::Tensor reference =
          at::mul(ReferenceLogProbs(rh, w, targets), row_weights).sum().neg();
      RunBackward({reference}, {{}});
      EXPECT_LT(RelativeError(loss, reference), kTolerance);
      EXPECT_LT(RelativeError(hidden.grad(), rh.grad()), kTolerance);
      ExpectShardOf(*shard.weight, w.grad());
      at::NoGradGuard no_grad;
      EXPECT_LT(
          RelativeError(head.WeightedCrossEntropy(hidden, row_targets, row_weights), reference),
          kTolerance);
      EXPECT_LT(RelativeError(head.Logits(hidden), at::linear(rh, w)), kTolerance);
    }
  });
}

TEST_P(TensorParallelTest, NoTokenCounts) {
  Run([](Rank& rank) {
    VocabShard shard =
        VocabShard::Create("head", 11, 4, Initializer::Normal(1), rank.tp, at::kDouble);
    rank.Prepare({shard.weight.get()});
    VocabParallelHead head(shard, rank.tp);
    const at::Tensor hidden = Values("hidden", {3, 4}).set_requires_grad(true);
    const at::Tensor loss =
        head.WeightedCrossEntropy(hidden, at::arange(0, 3, at::kLong), at::zeros({3}, at::kDouble));
    RunBackward({loss}, {{}});
    EXPECT_EQ(loss.item().toDouble(), 0);
    EXPECT_EQ(hidden.grad().abs().sum().item().toDouble(), 0);
    EXPECT_EQ(shard.weight->main_grad.abs().sum().item().toDouble(), 0);
  });
}

TEST_P(TensorParallelTest, TokenLogProbs) {
  Run([](Rank& rank) {
    constexpr int64_t kTokens = 300;
    VocabShard shard =
        VocabShard::Create("head", 11, 4, Initializer::Normal(1), rank.tp, at::kDouble);
    rank.Prepare({shard.weight.get()});
    VocabParallelHead head(shard, rank.tp);
    const at::Tensor targets = at::arange(0, kTokens, at::kLong).remainder(11);
    const at::Tensor hidden = Values("hidden", {kTokens, 4}).set_requires_grad(true);
    const at::Tensor log_probs = head.TokenLogProbs(hidden, targets);
    RunBackward({log_probs}, {Values("dlp", {kTokens})});

    const at::Tensor w = Whole(*shard.weight);
    const at::Tensor rh = hidden.detach().clone().set_requires_grad(true);
    const at::Tensor reference = ReferenceLogProbs(rh, w, targets);
    RunBackward({reference}, {Values("dlp", {kTokens})});
    EXPECT_LT(RelativeError(log_probs, reference), kTolerance);
    EXPECT_LT(RelativeError(hidden.grad(), rh.grad()), kTolerance);
    ExpectShardOf(*shard.weight, w.grad());
    EXPECT_EQ(shard.weight->pending_uses(), 0);
  });
}

// Of hidden states that are split along the sequence; the targets are all on every rank.
TEST_P(TensorParallelTest, EmbeddingAndHeadOnASplitSequence) {
  Run([](Rank& rank) {
    const int n = rank.tp.size(), part = 8 / n, first = rank.tp.rank() * part;
    VocabParallelEmbedding embed("embed", 11, 4, Initializer::Normal(1), rank.tp, at::kDouble,
                                 std::nullopt, /*sequence_parallel=*/true);
    VocabShard shard =
        VocabShard::Create("head", 11, 4, Initializer::Normal(1), rank.tp, at::kDouble);
    rank.Prepare({embed.shard().weight.get(), shard.weight.get()});
    VocabParallelHead head(shard, rank.tp, /*sequence_parallel=*/true);
    const at::Tensor ids = at::arange(0, 16, at::kLong).remainder(11).view({2, 8});
    const at::Tensor targets = ids.add(3).remainder(11);
    const at::Tensor weights = Values("weights", {2, 8}).abs();
    for (bool log_probs : {false, true}) {
      embed.shard().weight->set_grad_written(false);
      shard.weight->set_grad_written(false);
      const at::Tensor hidden = embed.Forward(ids);
      ASSERT_EQ(hidden.sizes().vec(), (std::vector<int64_t>{2, part, 4}));
      const at::Tensor out = log_probs ? head.TokenLogProbs(hidden, targets)
                                       : head.WeightedCrossEntropy(hidden, targets, weights);
      RunBackward({out}, {log_probs ? weights.neg() : at::Tensor()});
      rank.deferring.RunAll();

      const at::Tensor we = Whole(*embed.shard().weight), wh = Whole(*shard.weight);
      const at::Tensor rh = at::embedding(we, ids);
      const at::Tensor all =
          ReferenceLogProbs(rh.view({16, 4}), wh, targets.view({16})).view({2, 8});
      const at::Tensor loss = at::mul(all, weights).sum().neg();
      RunBackward({loss}, {{}});
      EXPECT_LT(RelativeError(hidden, rh.narrow(1, first, part)), kTolerance);
      EXPECT_LT(RelativeError(out, log_probs ? all : loss), kTolerance);
      EXPECT_LT(RelativeError(head.Logits(hidden), at::linear(rh, wh)), kTolerance);
      ExpectShardOf(*embed.shard().weight, we.grad());
      ExpectShardOf(*shard.weight, wh.grad());
    }
  });
}

TEST_P(TensorParallelTest, FrozenHeadStillSendsTheInputGradient) {
  Run([](Rank& rank) {
    VocabShard shard =
        VocabShard::Create("head", 11, 4, Initializer::Normal(1), rank.tp, at::kDouble);
    rank.Prepare({shard.weight.get()});
    shard.weight->set_trainable(false);
    VocabParallelHead head(shard, rank.tp);
    const at::Tensor hidden = Values("hidden", {3, 4}).set_requires_grad(true);
    RunBackward(
        {head.WeightedCrossEntropy(hidden, at::arange(0, 3, at::kLong), Values("w", {3}).abs())},
        {{}});
    EXPECT_GT(hidden.grad().abs().sum().item().toDouble(), 0);
    EXPECT_FALSE(shard.weight->main_grad.defined());
  });
}

INSTANTIATE_TEST_SUITE_P(Degrees, TensorParallelTest,
                         testing::Combine(testing::Values(1, 2, 4), testing::Bool()),
                         [](const auto& info) {
                           return absl::StrCat("tp", std::get<0>(info.param),
                                               std::get<1>(info.param) ? "_deferring" : "");
                         });

}  // namespace
}  // namespace lathe
