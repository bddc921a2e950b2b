#include "lathe/tensor_parallel/vocab_parallel_head.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "ATen/Parallel.h"
#include "ATen/ops/add.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/div.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/mm.h"
#include "ATen/ops/mul.h"
#include "ATen/ops/nonzero.h"
#include "ATen/ops/stack.h"
#include "ATen/ops/zeros.h"
#include "c10/util/Exception.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/gradient_sink.h"
#include "lathe/layers/meta_meter.h"
#include "lathe/layers/precision.h"
#include "lathe/tensor_parallel/exp_rows_kernel.h"
#include "lathe/tensor_parallel/regions.h"

namespace lathe {
namespace {

// Tokens per chunk. Each chunk reads and writes the weight gradient once, so fewer tokens cost
// memory traffic (9 % of the product's time at 256) and more cost memory: 256 rows of 152,000 fp32
// logits are 156 MB. A GPU has memory for more, and needs more to be busy.
int64_t ChunkTokens(c10::Device device) { return device.is_cuda() ? 1024 : 256; }

using KernelType = float;

at::Tensor Flat(const at::Tensor& hidden) { return hidden.reshape({-1, hidden.size(-1)}); }

// The part of the table in use: padding never enters a product.
at::Tensor UsedRows(const at::Tensor& table, const VocabShard& shard) {
  return table.narrow(0, 0, shard.num_rows);
}

// Of one chunk of tokens against this rank's vocabulary.
struct ChunkSoftmax {
  at::Tensor exponentials;  // [n, num_rows]: exp(logit − max)
  at::Tensor sum;           // [n]: of the exponentials over the whole vocabulary
  at::Tensor log_prob;      // [n]: of the target
  at::Tensor log_sum;       // [n]: log Σ exp(logit)
  at::Tensor local_target;  // [n] row of the local table, 0 where another rank has it
  at::Tensor has_target;  // [n] 1 where this rank has the target's row, else 0; in the upcast dtype
};

// The kernel serves what training uses; fp64 (the equivalence tests) takes LibTorch's operators.
bool KernelServes(const at::Tensor& logits) {
  return logits.device().is_cpu() && logits.is_contiguous() &&
         logits.scalar_type() == c10::CppTypeToScalarType<KernelType>::value;
}

at::Tensor MaxOfRows(const at::Tensor& logits) {
  if (!KernelServes(logits)) return logits.amax(1);
  at::Tensor max = at::empty({logits.size(0)}, logits.options());
  at::parallel_for(0, logits.size(0), /*grain_size=*/1, [&](int64_t first, int64_t last) {
    RowMax(logits.const_data_ptr<KernelType>(), first, last, logits.size(1),
           max.data_ptr<KernelType>());
  });
  return max;
}

// logits ← exp(logits − max); returns the rows' sums.
at::Tensor ExponentiateRows(at::Tensor& logits, const at::Tensor& max) {
  if (!KernelServes(logits)) return logits.sub_(max.unsqueeze(1)).exp_().sum(1);
  at::Tensor sum = at::empty({logits.size(0)}, logits.options());
  at::parallel_for(0, logits.size(0), /*grain_size=*/1, [&](int64_t first, int64_t last) {
    ExpRows(logits.data_ptr<KernelType>(), first, last, logits.size(1),
            max.const_data_ptr<KernelType>(), sum.data_ptr<KernelType>());
  });
  return sum;
}

// `products`: [n, num_rows] in hidden's dtype, to work in; the exponentials may lie there.
ChunkSoftmax ComputeChunk(const at::Tensor& hidden, const at::Tensor& targets,
                          const VocabShard& shard, const Communicator& tp, at::Tensor products) {
  ChunkSoftmax chunk;
  at::mm_out(products, hidden, UsedRows(shard.weight->tensor(), shard).t());
  at::Tensor logits = Upcast(products);
  const at::Tensor local = targets.sub(shard.first_row);
  const at::Tensor inside = local.ge(0).bitwise_and_(local.lt(shard.num_rows));
  chunk.local_target = at::mul(local, inside);
  chunk.has_target = inside.to(logits.scalar_type());

  at::Tensor max = MaxOfRows(logits);
  tp.AllReduce(max, ReduceOp::kMax);
  const at::Tensor target_logit =
      at::mul(logits.gather(1, chunk.local_target.unsqueeze(1)).squeeze(1), chunk.has_target);
  const at::Tensor local_sum = ExponentiateRows(logits, max);
  chunk.exponentials = logits;
  const at::Tensor sums = at::stack({local_sum, target_logit});
  tp.AllReduce(sums);
  chunk.sum = sums[0];
  chunk.log_sum = chunk.sum.log().add_(max);
  chunk.log_prob = sums[1].sub(chunk.log_sum);
  return chunk;
}

// With p the softmax, 1 the target's indicator and g the gradient of −log p per token ([n]): the
// logits' gradient is g·(p − 1). Both products use it as exponentials scaled per row minus one row
// per token, so the [n, vocabulary] block is not written again.
struct ChunkGradient {
  at::Tensor exponentials;  // [n, num_rows] in hidden's dtype
  at::Tensor scale;         // [n, 1]: g / sum
  at::Tensor minus_target;  // [n, 1]: −g where this rank has the target's row, else 0
};

ChunkGradient MakeGradient(const ChunkSoftmax& chunk, const at::Tensor& g, at::ScalarType dtype) {
  return {chunk.exponentials.to(dtype), at::div(g, chunk.sum).unsqueeze(1),
          at::mul(g, chunk.has_target).neg_().unsqueeze(1)};
}

void AddWeightGradient(const ChunkGradient& gradient, const ChunkSoftmax& chunk,
                       const at::Tensor& hidden, at::Tensor used_rows, bool overwrite) {
  AccumulateOuterProduct(used_rows, overwrite, gradient.exponentials,
                         at::mul(hidden, gradient.scale).to(hidden.scalar_type()));
  used_rows.index_add_(0, chunk.local_target,
                       at::mul(hidden, gradient.minus_target).to(used_rows.scalar_type()));
}

// The hidden states' gradient, partial over the tensor ranks.
at::Tensor HiddenGradient(const ChunkGradient& gradient, const ChunkSoftmax& chunk,
                          const at::Tensor& table) {
  at::Tensor d_hidden = at::mul(Upcast(at::mm(gradient.exponentials, table)), gradient.scale);
  d_hidden.add_(at::mul(SelectRows(table, chunk.local_target), gradient.minus_target));
  return d_hidden.to(table.scalar_type());
}

// Runs `body(first, count)` over chunks of `n` tokens.
template <typename Body>
void ForEachChunk(int64_t n, int64_t chunk, const Body& body) {
  for (int64_t first = 0; first < n; first += chunk) body(first, std::min(chunk, n - first));
}

// What a pass over all chunks needs and makes. Everything is detached.
class HeadPass {
 public:
  HeadPass(at::Tensor hidden, at::Tensor targets, VocabShard& shard, const Communicator& tp)
      : hidden_(std::move(hidden)),
        targets_(std::move(targets)),
        shard_(shard),
        tp_(tp),
        chunk_tokens_(ChunkTokens(hidden_.device())) {}

  // Log-probabilities of all tokens, [tokens].
  at::Tensor LogProbs() {
    TensorList parts;
    ForEachChunk(hidden_.size(0), chunk_tokens_, [&](int64_t first, int64_t count) {
      parts.push_back(Chunk(first, count).log_prob);
    });
    products_.reset();
    return parts.empty()
               ? at::zeros({0}, hidden_.options().dtype(UpcastType(hidden_.scalar_type())))
               : at::cat(parts);
  }

  // The same, with gradients: `g` [tokens] is the gradient of −log p. The weight's gradient goes to
  // its sink if it is trainable; `d_hidden` [tokens, hidden_size], if not null, receives the hidden
  // states', this rank's part of a sum.
  at::Tensor Gradients(const at::Tensor& g, at::Tensor* d_hidden) {
    Parameter& weight = *shard_.weight;
    at::Tensor log_probs;
    if (weight.trainable()) {
      weight.sink()->AccumulateNow(weight, [&](at::Tensor& accumulator, bool overwrite) {
        if (overwrite && (hidden_.size(0) == 0 || shard_.num_rows < accumulator.size(0)))
          accumulator.zero_();
        log_probs = RunChunks(g, d_hidden, UsedRows(accumulator, shard_), overwrite);
      });
    } else {
      log_probs = RunChunks(g, d_hidden, at::Tensor(), false);
    }
    return log_probs;
  }

 private:
  at::Tensor Rows(int64_t first, int64_t count) const { return hidden_.narrow(0, first, count); }

  ChunkSoftmax Chunk(int64_t first, int64_t count) {
    if (!products_.defined()) {
      products_ =
          at::empty({std::min(chunk_tokens_, hidden_.size(0)), shard_.num_rows}, hidden_.options());
    }
    return ComputeChunk(Rows(first, count), targets_.narrow(0, first, count), shard_, tp_,
                        products_.narrow(0, 0, count));
  }

  at::Tensor RunChunks(const at::Tensor& g, at::Tensor* d_hidden, const at::Tensor& weight_grad,
                       bool overwrite) {
    const at::Tensor table = UsedRows(shard_.weight->tensor(), shard_);
    at::Tensor log_probs = at::empty({hidden_.size(0)}, g.options());
    if (d_hidden != nullptr) *d_hidden = at::empty(hidden_.sizes(), hidden_.options());
    ForEachChunk(hidden_.size(0), chunk_tokens_, [&](int64_t first, int64_t count) {
      const at::Tensor rows = Rows(first, count);
      const ChunkSoftmax chunk = Chunk(first, count);
      const ChunkGradient gradient =
          MakeGradient(chunk, g.narrow(0, first, count), rows.scalar_type());
      log_probs.narrow(0, first, count).copy_(chunk.log_prob);
      if (weight_grad.defined()) {
        AddWeightGradient(gradient, chunk, rows, weight_grad, overwrite && first == 0);
      }
      if (d_hidden != nullptr) {
        d_hidden->narrow(0, first, count).copy_(HiddenGradient(gradient, chunk, table));
      }
    });
    products_.reset();
    return log_probs;
  }

  at::Tensor hidden_;
  at::Tensor targets_;
  VocabShard& shard_;
  const Communicator& tp_;
  const int64_t chunk_tokens_;
  // One block for all chunks of a pass: fresh memory costs a page fault per 4 KiB of it.
  at::Tensor products_;
};

}  // namespace

at::Tensor VocabParallelHead::EnterRegion(const at::Tensor& hidden) const {
  return sequence_parallel_ ? GatherFromSequenceRegion(hidden, tp_) : CopyToRegion(hidden, tp_);
}

at::Tensor VocabParallelHead::WeightedCrossEntropy(const at::Tensor& all_hidden,
                                                   const at::Tensor& all_targets,
                                                   const at::Tensor& all_weights) {
  const at::Tensor hidden = Flat(EnterRegion(all_hidden));
  const at::Tensor targets = all_targets.reshape({-1});
  Parameter& weight = *shard_.weight;
  const bool records = RecordsGradient({hidden, weight.tensor()});
  const bool needs_d_hidden = records && hidden.requires_grad();
  at::NoGradGuard no_grad;
  at::Tensor wide_weights = all_weights.reshape({-1}).to(UpcastType(hidden.scalar_type()));

  // Only rows that count.
  // A rehearsal (lathe/layers/meta_meter.h) cannot look: every sequence's last token has none.
  const at::Tensor kept = wide_weights.is_meta() ? at::empty({hidden.size(0) - all_weights.size(0)},
                                                             all_targets.options())
                                                 : at::nonzero(wide_weights).squeeze(1);
  const bool all = kept.size(0) == hidden.size(0);
  const at::Tensor rows = all ? hidden.detach() : SelectRows(hidden.detach(), kept);
  const at::Tensor row_targets = all ? targets : SelectRows(targets, kept);
  if (!all) wide_weights = SelectRows(wide_weights, kept);

  HeadPass pass(rows, row_targets, shard_, tp_);
  if (!records) return at::mul(pass.LogProbs(), wide_weights).sum().neg();
  if (weight.trainable()) weight.BeginUse();
  at::Tensor d_rows;
  const at::Tensor log_probs = pass.Gradients(wide_weights, needs_d_hidden ? &d_rows : nullptr);
  at::Tensor loss = at::mul(log_probs, wide_weights).sum().neg();

  auto backward = [d_rows, kept, all,
                   shape = hidden.sizes().vec()](const at::Tensor& grad) -> TensorList {
    TORCH_CHECK(grad.is_meta() || grad.item().toDouble() == 1,
                "WeightedCrossEntropy must be the root of backward with gradient 1, got ",
                grad.item().toDouble(), ": scale its weights instead");
    if (!d_rows.defined() || all) return {d_rows, at::Tensor()};
    return {at::zeros(shape, d_rows.options()).index_copy_(0, kept, d_rows), at::Tensor()};
  };
  at::AutoGradMode grad_mode(true);
  return Record("WeightedCrossEntropy", {hidden, weight.tensor()}, std::move(loss),
                std::move(backward));
}

at::Tensor VocabParallelHead::TokenLogProbs(const at::Tensor& all_hidden,
                                            const at::Tensor& targets) {
  const at::Tensor hidden = Flat(EnterRegion(all_hidden));
  Parameter& weight = *shard_.weight;
  auto pass = std::make_shared<HeadPass>(hidden.detach(), targets.reshape({-1}), shard_, tp_);
  at::Tensor log_probs = NoGrad([&] { return pass->LogProbs().view(targets.sizes()); });
  if (!RecordsGradient({hidden, weight.tensor()})) return log_probs;
  if (weight.trainable()) weight.BeginUse();
  auto backward = [pass,
                   needs_d_hidden = hidden.requires_grad()](const at::Tensor& grad) -> TensorList {
    at::Tensor d_hidden;
    pass->Gradients(grad.reshape({-1}).neg(), needs_d_hidden ? &d_hidden : nullptr);
    return {d_hidden, at::Tensor()};
  };
  return Record("TokenLogProbs", {hidden, weight.tensor()}, std::move(log_probs),
                std::move(backward));
}

at::Tensor VocabParallelHead::Logits(const at::Tensor& hidden) {
  at::NoGradGuard no_grad;
  const at::Tensor whole = EnterRegion(hidden);
  std::vector<int64_t> shape = whole.sizes().vec();
  shape.back() = shard_.weight->full_shape()[0];
  // Every rank multiplies its padded table, so that the slices are equally wide; the padding is the
  // tail.
  const at::Tensor local = at::mm(Flat(whole), shard_.weight->tensor().t());
  return GatherFromRegion(local, tp_).narrow(1, 0, shape.back()).reshape(shape);
}

}  // namespace lathe
