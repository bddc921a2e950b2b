#include "lathe/models/llama/llama_stage.h"

#include <algorithm>
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
  LlamaHead(VocabShard& shard, const Communicator& tp, bool sequence_parallel, BlockRunner& runner)
      : head_(shard, tp, sequence_parallel), table_{shard.weight.get()}, runner_(runner) {}

  at::Tensor WeightedCrossEntropy(const at::Tensor& hidden, const at::Tensor& targets,
                                  const at::Tensor& weights) override {
    return runner_.RunForwardOnly(table_, {hidden}, [&](const TensorList& in) {
      return TensorList{head_.WeightedCrossEntropy(in[0], targets, weights)};
    })[0];
  }
  at::Tensor TokenLogProbs(const at::Tensor& hidden, const at::Tensor& targets) override {
    return runner_.Run(kNoBlock, table_, {hidden}, [this, targets](const TensorList& in) {
      return TensorList{head_.TokenLogProbs(in[0], targets)};
    })[0];
  }
  at::Tensor Logits(const at::Tensor& hidden) override {
    return runner_.RunForwardOnly(table_, {hidden}, [this](const TensorList& in) {
      return TensorList{head_.Logits(in[0])};
    })[0];
  }

 private:
  VocabParallelHead head_;
  const std::vector<Parameter*> table_;
  BlockRunner& runner_;
};

// A contiguous part of the model.
struct Chunk {
  bool embeds = false;  // begins with the embedding
  bool ends = false;    // ends with the final norm and the head
  int first_block = 0;
  std::vector<std::unique_ptr<LlamaBlock>> blocks;
};

class LlamaStage : public Stage {
 public:
  LlamaStage(const ModelConfig& config, const ParallelContext& context, at::ScalarType dtype,
             BlockRunner& runner, const StageOptions& options)
      : config_(config), device_(context.device()), runner_(runner) {
    const at::TensorOptions tensor_options =
        at::TensorOptions(options.allocates ? device_ : c10::Device(at::kMeta)).dtype(dtype);
    const Communicator& tp = context.Group({"tp"});
    const int num_blocks = static_cast<int>(config.num_hidden_layers);
    const Communicator& pp = context.Group({"pp"});
    std::vector<int> boundaries = options.boundaries;
    if (boundaries.empty()) boundaries = {0, num_blocks + 2};
    for (size_t stage = pp.rank(); stage + 1 < boundaries.size(); stage += pp.size()) {
      const int begin = boundaries[stage], end = boundaries[stage + 1];
      Chunk chunk{.embeds = begin == 0, .ends = end == num_blocks + 2};
      chunk.first_block = std::max(begin, 1) - 1;
      for (int i = chunk.first_block; i < std::min(end, num_blocks + 1) - 1; ++i) {
        chunk.blocks.push_back(
            std::make_unique<LlamaBlock>(config, i, tp, tensor_options, options));
      }
      chunks_.push_back(std::move(chunk));
    }
    MakeEmbedding(tp, tensor_options, options);
    for (const Chunk& chunk : chunks_) {
      int unit = chunk.first_block + 1;
      for (const auto& block : chunk.blocks) {
        for (Parameter* parameter : block->parameters()) parameter->set_unit(unit);
        ++unit;
        parameters_.insert(parameters_.end(), block->parameters().begin(),
                           block->parameters().end());
      }
    }
    if (chunks_.back().ends) MakeHead(tp, tensor_options, options);
  }

  TensorList Forward(const MicroBatch& batch, int chunk, const TensorList& activations) override {
    const Chunk& part = chunks_[chunk];
    TORCH_CHECK(activations.size() == (part.embeds ? 0 : 1),
                "a part of the model takes the activations of the part before, the first none");
    at::Tensor h = part.embeds ? Embed(batch.input_ids) : activations[0];
    const RotaryTable rotary = Rotary(batch.input_ids.size(1));
    int i = part.first_block;
    for (const auto& owned : part.blocks) {
      LlamaBlock* block = owned.get();
      h = runner_.Run(i++, block->parameters(), {h},
                      [block, rotary, key = batch.dropout](const TensorList& in) {
                        const DropoutScope scope(key);
                        return TensorList{block->Forward(in[0], rotary)};
                      })[0];
    }
    if (!part.ends) return {h};
    return runner_.Run(kNoBlock, {norm_.get()}, {h}, [this](const TensorList& in) {
      return TensorList{RmsNorm(in[0], *norm_, config_.rms_norm_eps)};
    });
  }

  OutputHead* head() override { return head_.get(); }
  const std::vector<Parameter*>& parameters() override { return parameters_; }
  const ModelConfig& config() const override { return config_; }

  double FlopsPerToken(int64_t seq_len) const override {
    const LayerFlops flops = lathe::FlopsPerToken(config_, seq_len);
    return static_cast<double>(config_.num_hidden_layers) * flops.block + flops.head;
  }

 private:
  at::Tensor Embed(const at::Tensor& ids) {
    return runner_.RunForwardOnly({embed_->shard().weight.get()}, {ids}, [&](const TensorList& in) {
      return TensorList{embed_->Forward(in[0])};
    })[0];
  }

  // The table is where it is looked up, and where a tied head multiplies by it.
  void MakeEmbedding(const Communicator& tp, at::TensorOptions tensor_options,
                     const StageOptions& options) {
    const bool embeds = chunks_.front().embeds, ends = chunks_.back().ends;
    if (!embeds && !(ends && config_.tie_word_embeddings)) return;
    embed_.emplace("model.embed_tokens", config_.vocab_size, config_.hidden_size,
                   EmbeddingInit(config_), tp, tensor_options, config_.pad_token_id,
                   options.sequence_parallel);
    Parameter* table = embed_->shard().weight.get();
    if (config_.tie_word_embeddings && !(embeds && ends)) table->Tie(/*copy=*/ends);
    parameters_.push_back(table);
  }

  void MakeHead(const Communicator& tp, at::TensorOptions tensor_options,
                const StageOptions& options) {
    norm_ = MakeNormWeight("model.norm.weight", config_.hidden_size, tp, tensor_options, options);
    // Units after the blocks'; the embedding's is 0.
    norm_->set_unit(static_cast<int>(config_.num_hidden_layers) + 1);
    parameters_.push_back(norm_.get());
    if (!config_.tie_word_embeddings) {
      lm_head_ =
          VocabShard::Create("lm_head.weight", config_.vocab_size, config_.hidden_size,
                             Initializer::Normal(config_.initializer_range), tp, tensor_options);
      lm_head_->weight->set_unit(norm_->unit() + 1);
      parameters_.push_back(lm_head_->weight.get());
    }
    head_ = std::make_unique<LlamaHead>(lm_head_ ? *lm_head_ : embed_->shard(), tp,
                                        options.sequence_parallel, runner_);
  }

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
  std::vector<Chunk> chunks_;
  std::optional<VocabParallelEmbedding> embed_;
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
  return std::make_unique<LlamaStage>(config, context, dtype, runner, options);
}

}  // namespace lathe
