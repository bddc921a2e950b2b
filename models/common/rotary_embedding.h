// Rotary position embedding (Su et al., 2021) in transformers' layout: the first half of each head
// is rotated against the second. Kinds: default, linear, dynamic NTK, llama3, yarn.
//
//   RotaryTable table = MakeRotaryTable(config, /*seq_len=*/512);
//   at::Tensor q = ApplyRotary(q_heads, table.cos, table.sin);
#ifndef LATHE_MODELS_COMMON_ROTARY_EMBEDDING_H_
#define LATHE_MODELS_COMMON_ROTARY_EMBEDDING_H_

#include "ATen/core/Tensor.h"
#include "lathe/models/model_config.h"

namespace lathe {

// cos and sin of position × frequency, times the attention factor of yarn: [seq, head_dim / 2]
// fp32, bit-equal to what transformers computes for positions 0 … seq − 1 of one sequence of that
// length.
struct RotaryTable {
  at::Tensor cos, sin;
};
RotaryTable MakeRotaryTable(const ModelConfig& config, int64_t seq_len);

// x: [batch, seq, heads, head_dim]; cos, sin: [seq, head_dim / 2]. Returns the rotated x, same
// shape and dtype; computed in max(dtype, fp32). Source: transformers
// models/llama/modeling_llama.py, apply_rotary_pos_emb.
at::Tensor ApplyRotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);

}  // namespace lathe

#endif  // LATHE_MODELS_COMMON_ROTARY_EMBEDDING_H_
