// VocabParallelEmbedding: the embedding table with its rows (the vocabulary) split over the tensor
// ranks. Rows are padded so that every rank holds equally many; padding is in no ShardPiece, hence
// in no file, norm or logit.
//
//   VocabParallelEmbedding embed("model.embed_tokens", /*vocab_size=*/49152, /*hidden=*/256, init,
//   tp, at::kFloat); at::Tensor h = embed.Forward(ids);                 // [batch, seq] int64 →
//   [batch, seq, hidden] on all ranks
//
// Its table also serves as the tied head: see vocab_parallel_head.h.
#ifndef LATHE_TENSOR_PARALLEL_VOCAB_PARALLEL_EMBEDDING_H_
#define LATHE_TENSOR_PARALLEL_VOCAB_PARALLEL_EMBEDDING_H_

#include <memory>
#include <optional>
#include <string>

#include "ATen/core/Tensor.h"
#include "lathe/comm/communicator.h"
#include "lathe/layers/parameter.h"

namespace lathe {

// A table of vocab_size rows as one tensor rank holds it.
struct VocabShard {
  int64_t first_row = 0;  // logical row of the local row 0
  int64_t num_rows = 0;   // rows in use; the local tensor may have more (padding)
  std::unique_ptr<Parameter> weight;

  // `name`: the parameter's full name ("model.embed_tokens.weight", "lm_head.weight").
  static VocabShard Create(const std::string& name, int64_t vocab_size, int64_t hidden,
                           Initializer init, const Communicator& tp,
                           at::TensorOptions tensor_options);
};

class VocabParallelEmbedding {
 public:
  // `module`: "model.embed_tokens". `tp` must outlive the layer. Lookups of `padding_id` give no
  // gradient.
  VocabParallelEmbedding(const std::string& module, int64_t vocab_size, int64_t hidden,
                         Initializer init, const Communicator& tp, at::TensorOptions tensor_options,
                         std::optional<int64_t> padding_id = std::nullopt,
                         bool sequence_parallel = false);

  // ids: [...] int64 in [0, vocab_size), the same on all ranks (checked where batches are made, not
  // here). Returns [..., hidden] on all ranks; under sequence parallelism, of ids [batch, seq],
  // this rank's part of the sequence, [batch, seq / size, hidden].
  at::Tensor Forward(const at::Tensor& ids);

  VocabShard& shard() { return shard_; }

 private:
  const Communicator& tp_;
  VocabShard shard_;
  std::optional<int64_t> padding_id_;
  const bool sequence_parallel_;
};

}  // namespace lathe

#endif  // LATHE_TENSOR_PARALLEL_VOCAB_PARALLEL_EMBEDDING_H_
