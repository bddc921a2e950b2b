// One small training through the real Trainer, in this process and in a dtype of choice, so that
// equalities can be held to far more digits than fp32 has. For tests.
//
//   const Outcome a = TrainSmall(*context, {.batch_size = 8});
//   const Outcome b = TrainSmall(*context, {.batch_size = 2, .accumulation = 4});
//   EXPECT_LT(Difference(a, b).weights, 1e-12);
//
// Collective over the context's ranks; each rank has an Outcome of its own.
#ifndef LATHE_TESTS_EQUIVALENCE_SMALL_TRAINING_H_
#define LATHE_TESTS_EQUIVALENCE_SMALL_TRAINING_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "c10/core/ScalarType.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/layers/parameter.h"
#include "lathe/peft/lora/lora_config.h"
#include "lathe/pipeline_parallel/actions.h"
#include "lathe/zero/rule_set.h"
#include "lathe/zero/zero_optimizer.h"
#include "lathe/zero/zero_units.h"

namespace lathe {

struct SmallTraining {
  std::string model = "qwen2";  // of tests/goldens/parity/models
  at::ScalarType dtype = at::kDouble;
  int batch_size = 8;  // of one rank
  int accumulation = 1;
  int max_steps = 5;
  double learning_rate = 5e-3;
  double max_grad_norm = 1.0;
  bool recompute = false;
  bool recompute_mlp = false;
  bool sequence_parallel = false;
  int zero_stage = 0;
  RuleSet rules = AdamWRules({});
  // Of stage 3. The final norm's unit persists, others do not.
  UnitOptions units = {.prefetch_elements = 20000, .persistence_threshold = 100};
  int64_t reduce_bucket_elements = 4000;  // several buckets
  StateOffload offload_states = {};
  WeightOffload offload_weights = {};  // stage 3
  // Above 0: so many layers, of weights from a seed, instead of the folder's model; and another
  // vocabulary.
  int num_layers = 0;
  int64_t vocab_size = 0;
  int num_samples = 40, num_tokens = 24;  // of the data
  // weight −= learning rate · gradient, by AdamW's limit: no momentum, an epsilon beside which the
  // second moment is nothing, and a learning rate multiplied by it.
  bool sgd = false;
  // An adapter that is trained in place of the weights.
  std::optional<LoraConfig> lora = std::nullopt;
  // Of a pipeline.
  ScheduleKind schedule = ScheduleKind::k1F1B;
  int num_layers_per_virtual_stage = 0;
  std::string layout = "flops";
  // Where step 3 and the last are saved, if not empty, and the checkpoint from which the training
  // goes on.
  std::string output_dir, resume_from;
};

struct Outcome {
  std::vector<double> losses, grad_norms, learning_rates, epochs;  // of each update
  double eval_loss = 0;
  // After the last update: the weights, and the gradients that it took (clipped, where they were),
  // as this rank has them: by name, with the part of the whole tensor that each is.
  std::map<std::string, std::vector<LogicalPiece>> weights, gradients;
  // The same of step 1; empty for a training that goes on from a checkpoint.
  std::map<std::string, std::vector<LogicalPiece>> first_gradients;
};

// Trains on samples of which each has another number of labels. Needs
// //tests/goldens/parity in the test's data and a folder of its own per rank under TEST_TMPDIR.
Outcome TrainSmall(const ParallelContext& context, const SmallTraining& training);

// The largest relative differences: of losses and norms by value, of tensors max|a−b| / max|b|,
// where `a` may have some of them, or parts, and `b` has all, whole.
struct Differences {
  double losses = 0, grad_norms = 0, gradients = 0, weights = 0;
  // Of step 1; in L2, |a−b| of a part over |b| of the whole tensor.
  double first_gradients = 0, first_gradients_l2 = 0;
};
Differences Difference(const Outcome& a, const Outcome& b);

}  // namespace lathe

#endif  // LATHE_TESTS_EQUIVALENCE_SMALL_TRAINING_H_
