// Builders that several tasks share and that need more than one library: each makes one noun of the
// way from configuration to training.
#ifndef LATHE_LAUNCHERS_TASK_BUILDERS_H_
#define LATHE_LAUNCHERS_TASK_BUILDERS_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "google/protobuf/message.h"
#include "lathe/comm/launch_environment.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/datasets/tokenizers/tokenizer.h"
#include "lathe/launchers/run_config.pb.h"
#include "lathe/layers/block_runner.h"
#include "lathe/models/model_config.h"
#include "lathe/models/stage.h"
#include "lathe/peft/lora/lora_config.h"
#include "lathe/pipeline_parallel/partition.h"
#include "lathe/trainer/checkpointer.h"
#include "lathe/zero/zero_optimizer.h"

namespace lathe {

// What of a task shapes its memory and its model.
struct TaskShape {
  int64_t seq_len = 0;  // of the longest sample, in tokens
  // The adapter that is trained in place of the weights, and the folder that it starts from ("":
  // anew).
  std::optional<LoraConfig> adapter = std::nullopt;
  std::string adapter_folder = {};
  // Whether the model gets rows for tokens that only the tokenizer has, rather than refusing it.
  bool resizes_vocabulary = false;
};

// This rank's device and its groups along the axes tp, dp and pp, or the single process. The
// degrees must have passed MakeRunPlan. `flags`: the configuration's text, in which all ranks must
// agree.
absl::StatusOr<std::unique_ptr<ParallelContext>> BuildContext(const RunConfig& config,
                                                              const LaunchEnvironment& environment,
                                                              const std::string& flags);

// --config_name or --model_name_or_path.
std::string ModelPath(const RunConfig& config);

// --tokenizer_name, or the model's own folder.
std::string TokenizerFolder(const RunConfig& config);

// The architecture that --config_name or --model_name_or_path names.
// Errors: what config.json lacks or cannot be trained.
absl::StatusOr<ModelConfig> BuildModelConfig(const RunConfig& config);

// The tokenizer of TokenizerFolder. Errors: a tokenizer with more ids than the model has
// rows.
absl::StatusOr<std::unique_ptr<Tokenizer>> BuildTokenizer(const RunConfig& config,
                                                          const ModelConfig& model);

// A stage without values in its weights, and what goes with it.
struct Model {
  std::unique_ptr<Stage> stage;
  std::string directory;         // of its config.json and tokenizer
  at::ScalarType weights_dtype;  // what it is saved as
  // Of this rank: the modules that have an adapter, all that could, and those of modules_to_save.
  std::vector<std::string> adapted, adaptable, saved;
};
// With an `adapter`, its layers have it and nothing else is trainable.
absl::StatusOr<Model> BuildStage(const RunConfig& config, const ModelConfig& model_config,
                                 const ParallelContext& context, BlockRunner& runner,
                                 const LayerPartition& partition,
                                 const std::optional<LoraConfig>& adapter);

// Whether the adapter is on the model, all ranks together, and says in the log how much of the
// model is trained. Errors: CheckAdapted's. Collective.
absl::Status CheckAdapter(const LoraConfig& adapter, const Model& model,
                          const ParallelContext& context);

// What is saved: the model's weights, or the adapter's alone.
WeightsFile WeightsToSave(const Model& model, const std::optional<LoraConfig>& adapter);

// Fills the weights, from scratch or from the model's folder, and an adapter's, likewise, and says
// so in the log. Collective.
absl::Status FillWeights(const RunConfig& config, const Model& model, const TaskShape& task,
                         const ParallelContext& context, ZeroOptimizer& optimizer);

// The files that make a model's or an adapter's folder beside its weights: config.json or
// adapter_config.json, the tokenizer's, byte for byte, and run_config.json with `flags`.
using FileContents = std::map<std::string, std::string>;  // by name
absl::StatusOr<FileContents> ModelFolderFiles(const RunConfig& config, const Model& model,
                                              const std::optional<LoraConfig>& adapter,
                                              const std::string& flags);

// Dtype and device of the model's products.
at::TensorOptions ComputeOptions(const RunConfig& config, const Model& model,
                                 const ParallelContext& context);

// Says in the log who this rank is and what it was asked for.
void LogStart(const RunConfig& config, const ParallelContext& context, const std::string& flags);

// A task's configuration as text, for logs, TensorBoard and run_config.json.
std::string ConfigurationText(const google::protobuf::Message& config);

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_TASK_BUILDERS_H_
