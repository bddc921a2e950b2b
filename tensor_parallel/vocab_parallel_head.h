// VocabParallelHead: hidden states to loss, log-probabilities or logits over a vocabulary that is
// split over the tensor ranks. Nothing here ever holds [tokens, vocabulary]: the products run over
// chunks of tokens, and the ranks exchange three numbers per token, not logits.
//
//   VocabParallelHead head(embed.shard(), tp);                       // tied
//   at::Tensor loss = head.WeightedCrossEntropy(hidden, targets, weights);
//   RunBackward({loss}, {{}});
//
// All three take hidden [..., hidden_size] and targets [...] int64 in [0, vocab_size), the same on
// all ranks; under sequence parallelism each rank has its part of hidden, [batch, seq / size,
// hidden_size], and all have the targets [batch, seq]. Losses and log-probabilities are computed
// and returned in max(dtype, fp32).
#ifndef LATHE_TENSOR_PARALLEL_VOCAB_PARALLEL_HEAD_H_
#define LATHE_TENSOR_PARALLEL_VOCAB_PARALLEL_HEAD_H_

#include "ATen/core/Tensor.h"
#include "lathe/comm/communicator.h"
#include "lathe/tensor_parallel/vocab_parallel_embedding.h"

namespace lathe {

class VocabParallelHead {
 public:
  // Both must outlive the head.
  VocabParallelHead(VocabShard& shard, const Communicator& tp, bool sequence_parallel = false)
      : shard_(shard), tp_(tp), sequence_parallel_(sequence_parallel) {}

  // Σ weightᵢ · −log p(targetᵢ | hiddenᵢ), a scalar: the first form. Rows of weight 0 are not
  // computed (their target may be anything, −100 say).
  //
  // When recorded, gradients are made in this forward, chunk by chunk, while the probabilities are
  // at hand: the weight's goes to the sink at once, the hidden states' is kept, [tokens,
  // hidden_size]. So the loss must be the root of the backward, with gradient 1 (TORCH_CHECK):
  // scale `weights` instead. Shapes: weights as targets, any floating dtype.
  at::Tensor WeightedCrossEntropy(const at::Tensor& hidden, const at::Tensor& targets,
                                  const at::Tensor& weights);

  // log p(targetᵢ | hiddenᵢ), shaped as targets: the second form, whose gradient may be anything
  // (preference losses). Keeps hidden and one number per token, and computes the products again in
  // backward.
  at::Tensor TokenLogProbs(const at::Tensor& hidden, const at::Tensor& targets);

  // [..., vocab_size] on all ranks, in hidden's dtype, never recorded: for generation and tests.
  at::Tensor Logits(const at::Tensor& hidden);

 private:
  // `hidden` where each rank has its part of the vocabulary: on all ranks, with a gradient that is
  // their sum.
  at::Tensor EnterRegion(const at::Tensor& hidden) const;

  VocabShard& shard_;
  const Communicator& tp_;
  const bool sequence_parallel_;
};

}  // namespace lathe

#endif  // LATHE_TENSOR_PARALLEL_VOCAB_PARALLEL_HEAD_H_
