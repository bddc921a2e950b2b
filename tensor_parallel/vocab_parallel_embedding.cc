#include "lathe/tensor_parallel/vocab_parallel_embedding.h"

#include <algorithm>

#include "ATen/ops/empty.h"
#include "c10/util/Exception.h"
#include "lathe/layers/embedding.h"
#include "lathe/tensor_parallel/regions.h"

namespace lathe {

VocabShard VocabShard::Create(const std::string& name, int64_t vocab_size, int64_t hidden,
                              Initializer init, const Communicator& tp,
                              at::TensorOptions tensor_options) {
  const int64_t per_rank = (vocab_size + tp.size() - 1) / tp.size();
  VocabShard shard;
  shard.first_row = std::min(vocab_size, tp.rank() * per_rank);
  shard.num_rows = std::min(per_rank, vocab_size - shard.first_row);
  TORCH_CHECK(shard.num_rows > 0, name, ": a vocabulary of ", vocab_size, " leaves tensor rank ",
              tp.rank(), " of ", tp.size(), " without a row");
  shard.weight = std::make_unique<Parameter>(
      name, std::vector<int64_t>{vocab_size, hidden},
      ShardSpec::Slice({vocab_size, hidden}, 0, shard.first_row, shard.num_rows),
      at::empty({per_rank, hidden}, tensor_options), init);
  return shard;
}

VocabParallelEmbedding::VocabParallelEmbedding(const std::string& module, int64_t vocab_size,
                                               int64_t hidden, Initializer init,
                                               const Communicator& tp,
                                               at::TensorOptions tensor_options,
                                               std::optional<int64_t> padding_id,
                                               bool sequence_parallel)
    : tp_(tp),
      shard_(VocabShard::Create(module + ".weight", vocab_size, hidden, init, tp, tensor_options)),
      padding_id_(padding_id),
      sequence_parallel_(sequence_parallel) {}

at::Tensor VocabParallelEmbedding::Forward(const at::Tensor& ids) {
  const at::Tensor mine = Embedding(ids, *shard_.weight, shard_.first_row, padding_id_);
  return sequence_parallel_ ? ReduceScatterToSequenceRegion(mine, tp_)
                            : ReduceFromRegion(mine, tp_);
}

}  // namespace lathe
