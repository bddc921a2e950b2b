// Causal scaled-dot-product attention with grouped KV heads.
#ifndef LATHE_MODELS_COMMON_CAUSAL_ATTENTION_H_
#define LATHE_MODELS_COMMON_CAUSAL_ATTENTION_H_

#include "ATen/core/Tensor.h"

namespace lathe {

// softmax(q·kᵀ / √head_dim, keys not after the query) · v; query head h reads KV head h / (heads /
// kv_heads). Shapes: q [batch, seq, heads, head_dim], k and v [batch, seq, kv_heads, head_dim],
// heads divisible by kv_heads; returns [batch, seq, heads, head_dim] in q's dtype. Softmax in
// max(dtype, fp32). Never holds [seq, seq] of all heads; saves q, k, v, the output and one number
// per query.
at::Tensor CausalAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

}  // namespace lathe

#endif  // LATHE_MODELS_COMMON_CAUSAL_ATTENTION_H_
