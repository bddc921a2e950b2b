// Builders that several tasks share and that need more than one library: each makes one noun of the
// way from configuration to training.
#ifndef LATHE_LAUNCHERS_TASK_BUILDERS_H_
#define LATHE_LAUNCHERS_TASK_BUILDERS_H_

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "lathe/comm/launch_environment.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/datasets/dataset.h"
#include "lathe/datasets/tokenizers/tokenizer.h"
#include "lathe/launchers/run_config.pb.h"
#include "lathe/layers/block_runner.h"
#include "lathe/models/model_config.h"
#include "lathe/models/stage.h"
#include "lathe/pipeline_parallel/partition.h"
#include "lathe/zero/zero_optimizer.h"

namespace lathe {

// This rank's device and its groups along the axes tp, dp and pp, or the single process. The
// degrees must have passed MakeRunPlan.
absl::StatusOr<std::unique_ptr<ParallelContext>> BuildContext(const RunConfig& config,
                                                              const LaunchEnvironment& environment);

// --config_name or --model_name_or_path.
std::string ModelPath(const RunConfig& config);

// The architecture that --config_name or --model_name_or_path names.
// Errors: what config.json lacks or cannot be trained.
absl::StatusOr<ModelConfig> BuildModelConfig(const RunConfig& config);

// --tokenizer_name, or the model's own folder. Errors: a tokenizer with more ids than the model has
// rows.
absl::StatusOr<std::unique_ptr<Tokenizer>> BuildTokenizer(const RunConfig& config,
                                                          const ModelConfig& model);

// A stage without values in its weights, and what goes with it.
struct Model {
  std::unique_ptr<Stage> stage;
  std::string directory;         // of its config.json and tokenizer
  at::ScalarType weights_dtype;  // what it is saved as
};
absl::StatusOr<Model> BuildStage(const RunConfig& config, const ModelConfig& model_config,
                                 const ParallelContext& context, BlockRunner& runner,
                                 const LayerPartition& partition);

// Fills the weights, from scratch or from the model's folder, and says so in the log.
// Collective.
absl::Status FillWeights(const RunConfig& config, const Model& model,
                         const ParallelContext& context, ZeroOptimizer& optimizer);

// Training and evaluation blocks. `shows_progress`: on the rank that a person watches.
struct PretrainData {
  std::shared_ptr<const Dataset> train;
  std::shared_ptr<const Dataset> eval;  // null: no evaluation
};
absl::StatusOr<PretrainData> BuildPretrainData(const RunConfig& config, const Tokenizer& tokenizer,
                                               bool shows_progress);

// The files that make a model folder beside its weights: config.json and the tokenizer's, byte for
// byte.
using FileContents = std::map<std::string, std::string>;  // by name
absl::StatusOr<FileContents> ModelFolderFiles(const RunConfig& config, const Model& model);

// Dtype and device of the model's products.
at::TensorOptions ComputeOptions(const RunConfig& config, const Model& model,
                                 const ParallelContext& context);

// Says in the log who this rank is and what it was asked for.
void LogStart(const RunConfig& config, const ParallelContext& context);

// The run configuration as text, for logs, TensorBoard and run_config.json.
std::string ConfigurationText(const RunConfig& config);

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_TASK_BUILDERS_H_
