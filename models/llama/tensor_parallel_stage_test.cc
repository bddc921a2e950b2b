// Both families over 2, 3 and 4 tensor ranks, threads as ranks, against one process, in fp64:
// start, loss, logits, gradients, norm, the weights after a step, and the bytes that it took. KV
// heads as many as query heads, fewer, and fewer than ranks; a vocabulary that needs padding; with
// the sequence split and not.
#include <algorithm>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "ATen/core/grad_mode.h"
#include "ATen/ops/arange.h"
#include "ATen/ops/full.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gtest/gtest.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/block_runner.h"
#include "lathe/layers/parameter.h"
#include "lathe/layers/relative_error.h"
#include "lathe/models/auto_model.h"
#include "lathe/models/model_config.h"
#include "lathe/zero/zero_optimizer.h"

namespace lathe {
namespace {

constexpr int64_t kBatch = 2, kSeq = 12, kHidden = 24, kVocab = 67, kLayers = 2;

ModelConfig Config(bool qwen2, int heads, int kv_heads) {
  const std::string text = absl::StrFormat(
      R"({"model_type": "%s", "vocab_size": %d, "hidden_size": %d, "intermediate_size": 36,
          "num_hidden_layers": %d, "num_attention_heads": %d, "num_key_value_heads": %d,
          "head_dim": 4, "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
          "initializer_range": 0.3, "hidden_act": "silu", "tie_word_embeddings": %s,
          "attention_bias": %s, "mlp_bias": %s})",
      qwen2 ? "qwen2" : "llama", kVocab, kHidden, kLayers, heads, kv_heads,
      qwen2 ? "true" : "false", qwen2 ? "false" : "true", qwen2 ? "false" : "true");
  const absl::StatusOr<ModelConfig> config = ParseModelConfig(text, "config.json");
  EXPECT_TRUE(config.ok()) << config.status();
  return *config;
}

using Pieces = std::map<std::string, std::vector<LogicalPiece>>;  // by parameter

struct Result {
  Pieces start, gradients, weights;
  at::Tensor logits;
  double loss = 0, grad_norm = 0;
  uint64_t bytes = 0;            // of forward and backward
  int64_t elements_to_save = 0;  // of the whole model's parameters, this rank's
  double padding = 0;            // the sum of what local tensors hold outside of the logical ones
};

Pieces PiecesOf(Stage& stage, bool gradients) {
  Pieces pieces;
  for (const Parameter* p : stage.parameters()) {
    const at::Tensor local = gradients ? p->main_grad : p->tensor();
    pieces[p->name()] = LogicalPieces(*p, local.detach().clone());
  }
  return pieces;
}

double Padding(const Parameter& p, const at::Tensor& local) {
  const at::Tensor rest = local.detach().clone();
  for (const LogicalPiece& piece : LogicalPieces(p, rest)) piece.view.zero_();
  return rest.abs().sum().item().toDouble();
}

Result TrainOneStep(const ParallelContext& context, const ModelConfig& config,
                    const StageOptions& options) {
  Result result;
  PlainRunner runner;
  auto stage = BuildModel(config, context, at::kDouble, runner, options);
  if (!stage.ok()) throw std::runtime_error(stage.status().ToString());
  ZeroOptimizer optimizer((*stage)->parameters(), {.weight_decay = 0.1, .max_grad_norm = 0},
                          context);
  optimizer.FillMasters(
      [](Parameter& p, const at::Tensor& master) { p.InitializeInto(master, /*seed=*/7); });
  optimizer.AfterLoad();
  result.start = PiecesOf(**stage, false);

  MicroBatch batch;
  batch.input_ids = at::arange(0, kBatch * kSeq, at::kLong).mul(13).remainder(kVocab);
  batch.input_ids = batch.input_ids.view({kBatch, kSeq});
  const at::Tensor targets = batch.input_ids.add(29).remainder(kVocab);
  const at::Tensor weights = at::full({kBatch, kSeq}, 1.0 / (kBatch * kSeq), at::kDouble);
  optimizer.BeginUpdate();
  optimizer.BeginMicroBatch(0,
                            /*last=*/false);  // nothing is reduced yet: the bytes are the layers'
  const Communicator& tp = context.Group({"tp"});
  const uint64_t before = tp.bytes_sent();
  const at::Tensor hidden = (*stage)->Forward(batch, /*chunk=*/0, {})[0];
  const at::Tensor loss = (*stage)->head()->WeightedCrossEntropy(hidden, targets, weights);
  RunBackward({loss}, {{}});
  result.bytes = tp.bytes_sent() - before;
  result.logits = (*stage)->head()->Logits(hidden);
  result.loss = loss.item().toDouble();
  optimizer.FinishGradients();
  result.grad_norm = optimizer.Step(1e-2).grad_norm;
  result.gradients = PiecesOf(**stage, true);
  result.weights = PiecesOf(**stage, false);
  for (const Parameter* p : (*stage)->parameters()) {
    if (p->shard().replica == 0) result.elements_to_save += NumLogicalElements(*p);
    result.padding += Padding(*p, p->tensor()) + Padding(*p, p->main_grad);
  }
  return result;
}

// Compares a rank's pieces with the same regions of the whole tensors.
void ExpectPartsOf(const Pieces& parts, const Pieces& whole, double tolerance, const char* what) {
  ASSERT_EQ(parts.size(), whole.size());
  for (const auto& [name, pieces] : parts) {
    for (const LogicalPiece& piece : pieces) {
      at::Tensor reference = whole.at(name)[0].view;
      const double scale = std::max(1e-300, reference.abs().max().item().toDouble());
      for (int dim = 0; dim < piece.logical.num_dims(); ++dim) {
        reference = reference.narrow(dim, piece.logical.offset[dim], piece.logical.length[dim]);
      }
      EXPECT_LE(RelativeError(piece.view, reference, scale), tolerance) << what << " " << name;
    }
  }
}

// What forward and backward send, per rank. A unit is one way of half an all-reduce: each rank's
// share of [batch, seq, hidden], to all others.
uint64_t ExpectedBytes(int tp, bool sequence_parallel) {
  const uint64_t unit = kBatch * kSeq * kHidden * sizeof(double) * (tp - 1) / tp;
  // Embedding and head: the same either way. Each half of a layer: two all-reduces, or an
  // all-gather and a reduce-scatter in either direction and the input gathered once more.
  const uint64_t units = 4 + kLayers * (sequence_parallel ? 10 : 8);
  // The head's maximum, and its two sums, per token.
  return units * unit + 3 * 2 * kBatch * kSeq * sizeof(double) * (tp - 1) / tp;
}

struct Heads {
  int heads, kv_heads, tp;
};

class TensorParallelStageTest : public testing::TestWithParam<Heads> {};

TEST_P(TensorParallelStageTest, EqualsOneProcess) {
  const auto [heads, kv_heads, tp] = GetParam();
  for (bool qwen2 : {false, true}) {
    const ModelConfig config = Config(qwen2, heads, kv_heads);
    const Result one = TrainOneStep(*ParallelContext::SingleProcess(), config, {});
    EXPECT_EQ(one.elements_to_save, CountParameters(config));
    for (bool sequence_parallel : {false, true}) {
      for (bool recompute_mlp : {false, true}) {
        SCOPED_TRACE(absl::StrCat(qwen2 ? "qwen2" : "llama", " sequence parallel ",
                                  sequence_parallel, " recompute ", recompute_mlp));
        RunThreadRanks(
            *ProcessMesh::Create({{"tp", tp}}), [&, tp = tp](const ParallelContext& rank) {
              const Result mine = TrainOneStep(
                  rank, config,
                  {.sequence_parallel = sequence_parallel, .recompute_mlp = recompute_mlp});
              ExpectPartsOf(mine.start, one.start, 0, "start");
              EXPECT_NEAR(mine.loss, one.loss, 1e-12 * one.loss);
              EXPECT_NEAR(mine.grad_norm, one.grad_norm, 1e-12 * one.grad_norm);
              EXPECT_LT(RelativeError(mine.logits, one.logits), 1e-12);
              ExpectPartsOf(mine.gradients, one.gradients, 1e-11, "gradient");
              // AdamW's first step is the sign of the gradient, to 1e-8 of itself.
              ExpectPartsOf(mine.weights, one.weights, 1e-10, "weight");
              EXPECT_EQ(mine.padding, 0);
              if (!recompute_mlp) {
                EXPECT_EQ(mine.bytes, ExpectedBytes(tp, sequence_parallel));
              }
              at::Tensor elements = at::full({1}, mine.elements_to_save, at::kLong);
              rank.World().AllReduce(elements);
              EXPECT_EQ(elements.item().toLong(), CountParameters(config));
            });
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Degrees, TensorParallelStageTest,
                         testing::Values(Heads{4, 4, 2}, Heads{4, 2, 2}, Heads{2, 1, 2},
                                         Heads{6, 3, 3}, Heads{9, 3, 3}, Heads{3, 1, 3},
                                         Heads{8, 4, 4}, Heads{4, 2, 4}, Heads{4, 1, 4}),
                         [](const auto& info) {
                           return absl::StrCat(info.param.heads, "_heads_", info.param.kv_heads,
                                               "_kv_over_", info.param.tp);
                         });

}  // namespace
}  // namespace lathe
