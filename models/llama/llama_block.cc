#include "lathe/models/llama/llama_block.h"

#include "ATen/ops/add.h"
#include "ATen/ops/empty.h"
#include "absl/strings/str_cat.h"
#include "lathe/layers/rms_norm.h"
#include "lathe/models/common/causal_attention.h"
#include "lathe/models/common/swiglu.h"

namespace lathe {
namespace {

LinearOptions Options(const ModelConfig& config, int index, const char* module, int64_t in,
                      int64_t out, bool bias) {
  return {.name = absl::StrCat("model.layers.", index, ".", module),
          .in = in,
          .out = out,
          .bias = bias,
          .init = Initializer::Normal(config.initializer_range)};
}

}  // namespace

std::unique_ptr<Parameter> MakeNormWeight(const std::string& name, int64_t size,
                                          const Communicator& tp,
                                          at::TensorOptions tensor_options) {
  return std::make_unique<Parameter>(name, std::vector<int64_t>{size},
                                     ShardSpec::Whole({size}, /*replica=*/tp.rank()),
                                     at::empty({size}, tensor_options), Initializer::Ones());
}

LlamaBlock::LlamaBlock(const ModelConfig& c, int i, const Communicator& tp,
                       at::TensorOptions tensor_options)
    : head_dim_(c.head_dim),
      eps_(c.rms_norm_eps),
      input_norm_(MakeNormWeight(absl::StrCat("model.layers.", i, ".input_layernorm.weight"),
                                 c.hidden_size, tp, tensor_options)),
      post_norm_(
          MakeNormWeight(absl::StrCat("model.layers.", i, ".post_attention_layernorm.weight"),
                         c.hidden_size, tp, tensor_options)),
      q_(Options(c, i, "self_attn.q_proj", c.hidden_size, c.num_attention_heads * c.head_dim,
                 c.qkv_bias),
         tp, tensor_options),
      k_(Options(c, i, "self_attn.k_proj", c.hidden_size, c.num_key_value_heads * c.head_dim,
                 c.qkv_bias),
         tp, tensor_options),
      v_(Options(c, i, "self_attn.v_proj", c.hidden_size, c.num_key_value_heads * c.head_dim,
                 c.qkv_bias),
         tp, tensor_options),
      o_(Options(c, i, "self_attn.o_proj", c.num_attention_heads * c.head_dim, c.hidden_size,
                 c.o_bias),
         tp, tensor_options),
      gate_(Options(c, i, "mlp.gate_proj", c.hidden_size, c.intermediate_size, c.mlp_bias), tp,
            tensor_options),
      up_(Options(c, i, "mlp.up_proj", c.hidden_size, c.intermediate_size, c.mlp_bias), tp,
          tensor_options),
      down_(Options(c, i, "mlp.down_proj", c.intermediate_size, c.hidden_size, c.mlp_bias), tp,
            tensor_options) {
  auto append = [this](std::vector<Parameter*> list) {
    parameters_.insert(parameters_.end(), list.begin(), list.end());
  };
  append({input_norm_.get()});
  append(q_.parameters());
  append(k_.parameters());
  append(v_.parameters());
  append(o_.parameters());
  append({post_norm_.get()});
  append(gate_.parameters());
  append(up_.parameters());
  append(down_.parameters());
}

at::Tensor LlamaBlock::Attention(const at::Tensor& x, const RotaryTable& rotary) {
  auto heads = [&](const at::Tensor& projected) {
    return projected.view({x.size(0), x.size(1), -1, head_dim_});
  };
  const at::Tensor q = ApplyRotary(heads(q_.Forward(x)), rotary.cos, rotary.sin);
  const at::Tensor k = ApplyRotary(heads(k_.Forward(x)), rotary.cos, rotary.sin);
  const at::Tensor y = CausalAttention(q, k, heads(v_.Forward(x)));
  return o_.Forward(y.view({x.size(0), x.size(1), -1}));
}

at::Tensor LlamaBlock::Forward(const at::Tensor& x, const RotaryTable& rotary) {
  const at::Tensor h = at::add(x, Attention(RmsNorm(x, *input_norm_, eps_), rotary));
  const at::Tensor normed = RmsNorm(h, *post_norm_, eps_);
  return at::add(h, down_.Forward(SwiGlu(gate_.Forward(normed), up_.Forward(normed))));
}

}  // namespace lathe
