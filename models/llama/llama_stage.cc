#include "lathe/models/llama/llama_stage.h"

#include <optional>
#include <utility>

#include "c10/util/Exception.h"
#include "lathe/layers/rms_norm.h"
#include "lathe/models/llama/llama_block.h"
#include "lathe/tensor_parallel/vocab_parallel_embedding.h"
#include "lathe/tensor_parallel/vocab_parallel_head.h"

namespace lathe {
namespace {

class LlamaHead : public OutputHead {
 public:
  LlamaHead(VocabShard& shard, const Communicator& tp, bool sequence_parallel)
      : head_(shard, tp, sequence_parallel) {}

  at::Tensor WeightedCrossEntropy(const at::Tensor& hidden, const at::Tensor& targets,
                                  const at::Tensor& weights) override {
    return head_.WeightedCrossEntropy(hidden, targets, weights);
  }
  at::Tensor TokenLogProbs(const at::Tensor& hidden, const at::Tensor& targets) override {
    return head_.TokenLogProbs(hidden, targets);
  }
  at::Tensor Logits(const at::Tensor& hidden) override { return head_.Logits(hidden); }

 private:
  VocabParallelHead head_;
};

class LlamaStage : public Stage {
 public:
  LlamaStage(const ModelConfig& config, const Communicator& tp, at::TensorOptions tensor_options,
             BlockRunner& runner, const StageOptions& options)
      : config_(config),
        device_(tensor_options.device()),
        runner_(runner),
        embed_("model.embed_tokens", config.vocab_size, config.hidden_size, EmbeddingInit(config),
               tp, tensor_options, config.pad_token_id, options.sequence_parallel) {
    parameters_.push_back(embed_.shard().weight.get());
    for (int i = 0; i < config.num_hidden_layers; ++i) {
      blocks_.push_back(std::make_unique<LlamaBlock>(config, i, tp, tensor_options, options));
      parameters_.insert(parameters_.end(), blocks_[i]->parameters().begin(),
                         blocks_[i]->parameters().end());
    }
    norm_ = MakeNormWeight("model.norm.weight", config.hidden_size, tp, tensor_options, options);
    parameters_.push_back(norm_.get());
    if (!config.tie_word_embeddings) {
      lm_head_ =
          VocabShard::Create("lm_head.weight", config.vocab_size, config.hidden_size,
                             Initializer::Normal(config.initializer_range), tp, tensor_options);
      parameters_.push_back(lm_head_->weight.get());
    }
    head_ = std::make_unique<LlamaHead>(lm_head_ ? *lm_head_ : embed_.shard(), tp,
                                        options.sequence_parallel);
  }

  TensorList Forward(const MicroBatch& batch, const TensorList& activations) override {
    TORCH_CHECK(activations.empty(), "the first stage takes no activations");
    at::Tensor h = embed_.Forward(batch.input_ids);
    const RotaryTable rotary = Rotary(batch.input_ids.size(1));
    for (size_t i = 0; i < blocks_.size(); ++i) {
      LlamaBlock* block = blocks_[i].get();
      h = runner_.Run(static_cast<int>(i), block->parameters(), {h},
                      [block, rotary](const TensorList& in) {
                        return TensorList{block->Forward(in[0], rotary)};
                      })[0];
    }
    return {RmsNorm(h, *norm_, config_.rms_norm_eps)};
  }

  OutputHead* head() override { return head_.get(); }
  const std::vector<Parameter*>& parameters() override { return parameters_; }
  const ModelConfig& config() const override { return config_; }

  double FlopsPerToken(int64_t seq_len) const override {
    const double attention_width =
        static_cast<double>(config_.num_attention_heads) * config_.head_dim;
    const double kv_width = static_cast<double>(config_.num_key_value_heads) * config_.head_dim;
    const double per_layer = config_.hidden_size *
                             (2 * attention_width + 2 * kv_width + 3.0 * config_.intermediate_size);
    const double weights = config_.num_hidden_layers * per_layer +
                           static_cast<double>(config_.hidden_size) * config_.vocab_size;
    // q·k and p·v: 2 products of 2 FLOPs per key, three times (forward, two in backward), half the
    // keys on average.
    const double attention = config_.num_hidden_layers * 6.0 * seq_len * attention_width;
    return 6 * weights + attention;
  }

 private:
  static Initializer EmbeddingInit(const ModelConfig& config) {
    Initializer init = Initializer::Normal(config.initializer_range);
    init.zero_row = config.pad_token_id.value_or(-1);
    return init;
  }

  RotaryTable Rotary(int64_t seq_len) {
    if (!rotary_ || rotary_->cos.size(0) != seq_len) {
      const RotaryTable table = MakeRotaryTable(config_, seq_len);
      rotary_ = RotaryTable{table.cos.to(device_), table.sin.to(device_)};
    }
    return *rotary_;
  }

  ModelConfig config_;
  c10::Device device_;
  BlockRunner& runner_;
  VocabParallelEmbedding embed_;
  std::vector<std::unique_ptr<LlamaBlock>> blocks_;
  std::unique_ptr<Parameter> norm_;
  std::optional<VocabShard> lm_head_;  // absent when tied to embed_
  std::unique_ptr<LlamaHead> head_;
  std::vector<Parameter*> parameters_;
  std::optional<RotaryTable> rotary_;  // of the last sequence length
};

}  // namespace

std::unique_ptr<Stage> MakeLlamaStage(const ModelConfig& config, const ParallelContext& context,
                                      at::ScalarType dtype, BlockRunner& runner,
                                      const StageOptions& options) {
  return std::make_unique<LlamaStage>(config, context.Group({"tp"}),
                                      at::TensorOptions(context.device()).dtype(dtype), runner,
                                      options);
}

}  // namespace lathe
