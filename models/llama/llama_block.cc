#include "lathe/models/llama/llama_block.h"

#include <algorithm>
#include <optional>

#include "ATen/ops/add.h"
#include "ATen/ops/empty.h"
#include "absl/strings/str_cat.h"
#include "lathe/layers/dropout.h"
#include "lathe/layers/rms_norm.h"
#include "lathe/models/common/causal_attention.h"
#include "lathe/models/common/swiglu.h"

namespace lathe {
namespace {

// What all linear layers of one block have in common.
struct BlockContext {
  const ModelConfig& config;
  const int index;
  const Communicator& tp;
  const StageOptions& options;
};

std::string Name(const BlockContext& block, const char* module) {
  return absl::StrCat("model.layers.", block.index, ".", module);
}

LinearOptions Options(const BlockContext& block, const char* module, int64_t in, int64_t out,
                      bool bias) {
  return {.name = Name(block, module),
          .in = in,
          .out = out,
          .bias = bias,
          .init = Initializer::Normal(block.config.initializer_range),
          .sequence_parallel = block.options.sequence_parallel};
}

// Keys or values: with fewer heads than ranks, several ranks hold the same head.
LinearOptions KeyValueOptions(const BlockContext& block, const char* module) {
  const ModelConfig& c = block.config;
  LinearOptions options =
      Options(block, module, c.hidden_size, c.num_key_value_heads * c.head_dim, c.qkv_bias);
  options.num_slices = static_cast<int>(std::min<int64_t>(block.tp.size(), c.num_key_value_heads));
  return options;
}

}  // namespace

std::unique_ptr<Parameter> MakeNormWeight(const std::string& name, int64_t size,
                                          const Communicator& tp, at::TensorOptions tensor_options,
                                          const StageOptions& options) {
  auto weight = std::make_unique<Parameter>(name, std::vector<int64_t>{size},
                                            ShardSpec::Whole({size}, /*replica=*/tp.rank()),
                                            at::empty({size}, tensor_options), Initializer::Ones());
  if (options.sequence_parallel) weight->set_partial_sums({{.axis = "tp"}});
  return weight;
}

LlamaBlock::LlamaBlock(const ModelConfig& c, int i, const Communicator& tp, at::TensorOptions t,
                       const StageOptions& s)
    : index_(i),
      head_dim_(c.head_dim),
      eps_(c.rms_norm_eps),
      input_norm_(
          MakeNormWeight(Name({c, i, tp, s}, "input_layernorm.weight"), c.hidden_size, tp, t, s)),
      post_norm_(MakeNormWeight(Name({c, i, tp, s}, "post_attention_layernorm.weight"),
                                c.hidden_size, tp, t, s)),
      q_(Options({c, i, tp, s}, "self_attn.q_proj", c.hidden_size,
                 c.num_attention_heads * c.head_dim, c.qkv_bias),
         tp, t),
      k_(KeyValueOptions({c, i, tp, s}, "self_attn.k_proj"), tp, t),
      v_(KeyValueOptions({c, i, tp, s}, "self_attn.v_proj"), tp, t),
      o_(Options({c, i, tp, s}, "self_attn.o_proj", c.num_attention_heads * c.head_dim,
                 c.hidden_size, c.o_bias),
         tp, t),
      gate_(Options({c, i, tp, s}, "mlp.gate_proj", c.hidden_size, c.intermediate_size, c.mlp_bias),
            tp, t),
      up_(Options({c, i, tp, s}, "mlp.up_proj", c.hidden_size, c.intermediate_size, c.mlp_bias), tp,
          t),
      down_(Options({c, i, tp, s}, "mlp.down_proj", c.intermediate_size, c.hidden_size, c.mlp_bias),
            tp, t),
      mlp_runner_(s.recompute_mlp ? static_cast<BlockRunner&>(recompute_) : plain_) {
  if (s.on_layer) {
    for (ColumnParallelLinear* layer : {&q_, &k_, &v_}) s.on_layer(layer->adapters());
    s.on_layer(o_.adapters());
    for (ColumnParallelLinear* layer : {&gate_, &up_}) s.on_layer(layer->adapters());
    s.on_layer(down_.adapters());
  }
  const auto append = [](const std::vector<Parameter*>& list, std::vector<Parameter*>& to) {
    to.insert(to.end(), list.begin(), list.end());
  };
  append(gate_.parameters(), mlp_parameters_);
  append(up_.parameters(), mlp_parameters_);
  append(down_.parameters(), mlp_parameters_);
  parameters_ = {input_norm_.get()};
  append(q_.parameters(), parameters_);
  append(k_.parameters(), parameters_);
  append(v_.parameters(), parameters_);
  append(o_.parameters(), parameters_);
  append({post_norm_.get()}, parameters_);
  append(mlp_parameters_, parameters_);
}

at::Tensor LlamaBlock::Attention(const at::Tensor& x, const RotaryTable& rotary) {
  const TensorList qkv = ColumnParallelLinear::ForwardTogether({&q_, &k_, &v_}, x);
  auto heads = [&](const at::Tensor& projected) {
    return projected.view({projected.size(0), projected.size(1), -1, head_dim_});
  };
  const at::Tensor q = ApplyRotary(heads(qkv[0]), rotary.cos, rotary.sin);
  const at::Tensor k = ApplyRotary(heads(qkv[1]), rotary.cos, rotary.sin);
  return o_.Forward(CausalAttention(q, k, heads(qkv[2])).flatten(2));
}

at::Tensor LlamaBlock::Mlp(const at::Tensor& x) {
  const TensorList gate_up = ColumnParallelLinear::ForwardTogether({&gate_, &up_}, x);
  return down_.Forward(SwiGlu(gate_up[0], gate_up[1]));
}

at::Tensor LlamaBlock::Forward(const at::Tensor& x, const RotaryTable& rotary) {
  const at::Tensor h = at::add(x, Attention(RmsNorm(x, *input_norm_, eps_), rotary));
  std::optional<DropoutKey> key;
  if (DropoutScope::Current() != nullptr) key = *DropoutScope::Current();
  const auto mlp = [this, key](const TensorList& in) {
    const DropoutScope scope(key);
    return TensorList{Mlp(in[0])};
  };
  const TensorList normed{RmsNorm(h, *post_norm_, eps_)};
  return at::add(h, mlp_runner_.Run(index_, mlp_parameters_, normed, mlp)[0]);
}

}  // namespace lathe
