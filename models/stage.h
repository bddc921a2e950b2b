// Stage: what the trainer and the pipeline schedules see of a model: ordered blocks with global
// names, of which this rank holds a contiguous part, or several (its chunks), from activations to
// activations. Where the head is, hidden states become a loss through a LossFunction.
//
//   ABSL_ASSIGN_OR_RETURN(auto stage, BuildModel(config, context, at::kFloat, runner));
//   TensorList out = stage->Forward(micro_batch, /*chunk=*/0, {});
//   at::Tensor loss = loss_function.Compute(out[0], *stage->head(), micro_batch, total_weight);
//   RunBackward({loss}, {{}});
//
// Thread rule: one rank's stage is used by one thread at a time.
#ifndef LATHE_MODELS_STAGE_H_
#define LATHE_MODELS_STAGE_H_

#include <functional>
#include <optional>
#include <vector>

#include "ATen/core/Tensor.h"
#include "lathe/layers/adapter_point.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/dropout.h"
#include "lathe/layers/parameter.h"
#include "lathe/models/model_config.h"

namespace lathe {

// The integers of one micro batch; every stage has them.
struct MicroBatch {
  at::Tensor input_ids;  // [batch, seq] int64
  at::Tensor labels;     // [batch, seq] int64, not shifted, −100 where no loss is wanted (Hugging
                         // Face's convention)
  // In training; none: nothing is dropped.
  std::optional<DropoutKey> dropout = std::nullopt;
};

// The head as loss functions see it: tensor_parallel/vocab_parallel_head.h says what each does.
// hidden is what the last stage returns, targets and weights are [batch, seq].
class OutputHead {
 public:
  virtual ~OutputHead() = default;
  virtual at::Tensor WeightedCrossEntropy(const at::Tensor& hidden, const at::Tensor& targets,
                                          const at::Tensor& weights) = 0;
  virtual at::Tensor TokenLogProbs(const at::Tensor& hidden, const at::Tensor& targets) = 0;
  virtual at::Tensor Logits(const at::Tensor& hidden) = 0;
};

class LossFunction {
 public:
  virtual ~LossFunction() = default;

  // What this micro batch contributes to the divisor: tokens, sequences or samples that count.
  virtual double Weight(const MicroBatch& batch) const = 0;

  // Σ loss / total_weight over this micro batch, a scalar, where total_weight is the sum of Weight
  // over all micro batches and ranks of the update: so N micro batches equal one. hidden: what the
  // last stage returns, for `head` alone to look into.
  virtual at::Tensor Compute(const at::Tensor& hidden, OutputHead& head, const MicroBatch& batch,
                             double total_weight) const = 0;
};

// How a stage is run, beyond its architecture.
struct StageOptions {
  // Norms, the residual stream and what travels between stages are split along the sequence over
  // the tensor ranks: [batch, seq / tp, hidden_size].
  bool sequence_parallel = false;
  // Each MLP is computed again in backward from its input.
  bool recompute_mlp = false;
  // Whether parameters are made in memory. Else they are on the meta device, as shapes, until an
  // optimizer moves them: so that no rank ever holds more of a model than it keeps.
  bool allocates = true;
  // Where a pipeline cuts the model into stages, as pipeline_parallel/partition.h makes them: of
  // the layers 0 (the embedding), 1 to num_hidden_layers (the blocks) and num_hidden_layers + 1
  // (the head), stage s has boundaries[s] to boundaries[s + 1] − 1; rank r of p along "pp" has the
  // stages r, r + p, … as its chunks 0, 1, … Empty: one stage.
  std::vector<int> boundaries = {};
  // Called with each linear layer but the head as it is made, in model order: whoever adapts it
  // does so now. Null: nobody does.
  std::function<void(AdapterPoint&)> on_layer = nullptr;
};

class Stage {
 public:
  virtual ~Stage() = default;

  // The part `chunk` of what this rank holds, 0 where that is one. activations: none for the part
  // with the embedding, what the part before returned for the others. Returns this part's
  // activations, each [batch, seq, hidden_size] (under sequence parallelism [batch, seq / tp,
  // hidden_size]); of the part with the head, the normalised hidden states.
  virtual TensorList Forward(const MicroBatch& batch, int chunk, const TensorList& activations) = 0;

  // The head, on the ranks that have it; null elsewhere.
  virtual OutputHead* head() = 0;

  // All parameters that this rank holds, in model order, each once. A tied embedding's table comes
  // first on both stages that hold it, since its gradient is complete last.
  virtual const std::vector<Parameter*>& parameters() = 0;

  virtual const ModelConfig& config() const = 0;

  // Matrix-product FLOPs of one token's forward and backward at this sequence length, over the
  // whole model (6 per weight in a product, causal attention by half): what utilisation is measured
  // with.
  virtual double FlopsPerToken(int64_t seq_len) const = 0;
};

}  // namespace lathe

#endif  // LATHE_MODELS_STAGE_H_
