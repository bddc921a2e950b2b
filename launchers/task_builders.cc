#include "lathe/launchers/task_builders.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "lathe/base/beacon.h"
#include "lathe/base/config/json.h"
#include "lathe/base/config/schema.h"
#include "lathe/base/logging.h"
#include "lathe/base/read_file.h"
#include "lathe/checkpoint/checkpoint.h"
#include "lathe/checkpoint/model_files.h"
#include "lathe/launchers/device.h"
#include "lathe/launchers/rank_meeting.h"
#include "lathe/models/auto_model.h"
#include "lathe/models/pretrained.h"
#include "lathe/peft/lora/lora_injector.h"
#include "lathe/trainer/training_arguments.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

// The folder of a config.json, or the folder itself.
std::string FolderOf(const std::string& path) {
  if (fs::is_directory(path)) return path;
  const std::string folder = fs::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

// What of the model is saved with its adapter: what is trained.
std::function<std::string(const std::string&)> AdapterNames(const Model& model) {
  std::map<std::string, std::string> names;
  const std::set<std::string> adapted(model.adapted.begin(), model.adapted.end());
  for (const Parameter* parameter : model.stage->parameters()) {
    if (!parameter->trainable()) continue;
    names[parameter->name()] = AdapterFileName(parameter->name(), adapted);
  }
  return [names = std::move(names)](const std::string& parameter) -> std::string {
    const auto found = names.find(parameter);
    return found == names.end() ? "" : found->second;
  };
}

std::vector<NamedTensor> BaseWeights(const Model& model, const ZeroOptimizer& optimizer) {
  std::vector<NamedTensor> weights = optimizer.Weights(model.weights_dtype);
  std::erase_if(weights, [](const NamedTensor& tensor) { return IsOwnParameter(tensor.name); });
  return weights;
}

// An adapter's own weights: drawn, or from its folder.
absl::Status FillAdapter(const RunConfig& config, const Model& model, const TaskShape& task,
                         const ParallelContext& context, ZeroOptimizer& optimizer) {
  if (task.adapter_folder.empty()) {
    const uint64_t seed = static_cast<uint64_t>(config.training().seed());
    optimizer.FillMasters(
        [&](Parameter& parameter, const at::Tensor& master) {
          parameter.InitializeInto(master, seed);
        },
        [](const Parameter& parameter) { return IsOwnParameter(parameter.name()); });
    return absl::OkStatus();
  }
  LOG(INFO) << "Adapter path: " << task.adapter_folder;
  const std::vector<NamedTensor> weights =
      WeightsInFile(WeightsToSave(model, task.adapter), optimizer);
  const auto elsewhere = NamesOnAllRanks(MakeRankGroup(context.Group({"pp"})), weights);
  ABSL_ASSIGN_OR_RETURN(const ModelFiles files,
                        ModelFiles::Open(task.adapter_folder, "adapter_model"));
  return LoadTensors(files, weights, {.surplus_ok = [&](std::string_view name) {
                       return elsewhere.contains(name);
                     }});
}

}  // namespace

std::string ModelPath(const RunConfig& config) {
  return config.model().has_config_name() ? config.model().config_name()
                                          : config.model().model_name_or_path();
}

std::string TokenizerFolder(const RunConfig& config) {
  return config.model().has_tokenizer_name() ? config.model().tokenizer_name()
                                             : FolderOf(ModelPath(config));
}

std::string ConfigurationText(const google::protobuf::Message& config) {
  const absl::StatusOr<ConfigSchema> schema = ConfigSchema::Create(config.GetDescriptor());
  return schema.ok() ? ToJson(*schema, config) : std::string(schema.status().message());
}

absl::StatusOr<std::unique_ptr<ParallelContext>> BuildContext(const RunConfig& config,
                                                              const LaunchEnvironment& environment,
                                                              const std::string& flags) {
  ABSL_ASSIGN_OR_RETURN(
      const c10::Device device,
      ChooseDevice(config.training().use_cpu(), config.parallel().ddp_backend(), environment));
  if (environment.world_size == 1) return ParallelContext::SingleProcess(device);
  // Megatron's order: neighbours, which talk most, split layers.
  const int tp = config.parallel().tensor_model_parallel_size();
  const int pp = config.parallel().pipeline_model_parallel_size();
  ABSL_ASSIGN_OR_RETURN(
      ProcessMesh mesh,
      ProcessMesh::Create({{"tp", tp}, {"dp", environment.world_size / (tp * pp)}, {"pp", pp}}));
  ABSL_ASSIGN_OR_RETURN(RankMeeting meeting, MeetOtherRanks(config, environment, flags));
  return ParallelContext::Create(
      std::move(mesh), environment.rank,
      ConnectRanks(device, std::move(meeting.store),
                   std::chrono::seconds(config.parallel().ddp_timeout()), meeting.address),
      device);
}

absl::StatusOr<ModelConfig> BuildModelConfig(const RunConfig& config) {
  if (config.model().has_config_name() && config.model().has_model_name_or_path()) {
    return absl::InvalidArgumentError(
        "--config_name starts a new model and --model_name_or_path goes on from one: give one of "
        "them");
  }
  if (ModelPath(config).empty()) {
    return absl::InvalidArgumentError(
        "--config_name and --model_name_or_path cannot both be empty");
  }
  return ReadModelConfig(ModelPath(config));
}

absl::StatusOr<Model> BuildStage(const RunConfig& config, const ModelConfig& model_config,
                                 const ParallelContext& context, BlockRunner& runner,
                                 const LayerPartition& partition,
                                 const std::optional<LoraConfig>& adapter) {
  std::string dtype = config.model().torch_dtype();
  if (dtype == "auto") {
    dtype = config.model().has_config_name() || model_config.dtype.empty() ? "float32"
                                                                           : model_config.dtype;
  }
  if (dtype != "float32" && dtype != "bfloat16") {
    return absl::InvalidArgumentError(
        absl::StrCat(ModelPath(config), ": dtype \"", dtype,
                     "\" cannot be trained; give --torch_dtype float32 or bfloat16"));
  }
  Model model;
  model.directory = FolderOf(ModelPath(config));
  model.weights_dtype = dtype == "bfloat16" ? at::kBFloat16 : at::kFloat;
  const at::TensorOptions compute = ComputeOptions(config, model, context);
  StageOptions options{.sequence_parallel = config.parallel().sequence_parallel(),
                       .recompute_mlp = WhatIsRecomputed(config.training()).mlp,
                       .allocates = false,  // the optimizer does, what this rank keeps
                       .boundaries = partition.boundaries};
  std::optional<LoraInjector> lora;
  if (adapter) {
    ABSL_ASSIGN_OR_RETURN(lora, LoraInjector::Create(*adapter));
    options.on_layer = [&lora](AdapterPoint& point) { lora->OnLayer(point); };
  }
  ABSL_ASSIGN_OR_RETURN(
      model.stage, BuildModel(model_config, context, c10::typeMetaToScalarType(compute.dtype()),
                              runner, options));
  if (lora) {
    lora->Freeze(model.stage->parameters());
    model.adapted = lora->adapted();
    model.adaptable = lora->seen();
    model.saved = lora->saved();
  }
  return model;
}

absl::Status CheckAdapter(const LoraConfig& adapter, const Model& model,
                          const ParallelContext& context) {
  // Tensor- and data-parallel ranks have the same modules.
  const RankGroup stages = MakeRankGroup(context.Group({"pp"}));
  const auto everywhere = [&](const std::vector<std::string>& mine) -> std::vector<std::string> {
    if (stages.num_ranks == 1) return mine;
    return absl::StrSplit(
        absl::StrJoin(stages.all_gather(absl::StrCat(absl::StrJoin(mine, "\n"), "\n")), ""), '\n',
        absl::SkipEmpty());
  };
  const std::vector<std::string> adapted = everywhere(model.adapted);
  const std::vector<std::string> adaptable = everywhere(model.adaptable);
  const std::vector<std::string> saved = everywhere(model.saved);
  ABSL_RETURN_IF_ERROR(CheckAdapted(adapter, adapted, adaptable, saved));
  double trainable = 0, all = 0;
  for (const Parameter* parameter : model.stage->parameters()) {
    double elements = 1;
    for (const int64_t size : parameter->full_shape()) elements *= static_cast<double>(size);
    all += elements;
    if (parameter->trainable()) trainable += elements;
  }
  LOG(INFO) << "LoRA on " << adapted.size() << " modules; trainable params: "
            << absl::StrFormat("%.0f || all params: %.0f || trainable%%: %.4f%s", trainable, all,
                               100 * trainable / all,
                               stages.num_ranks > 1 ? " (of the first stage)" : "");
  return absl::OkStatus();
}

WeightsFile WeightsToSave(const Model& model, const std::optional<LoraConfig>& adapter) {
  if (!adapter) return {.dtype = model.weights_dtype};
  // peft keeps adapters in fp32, whatever the model is in.
  // presubmit: allow a file's dtype
  return {.stem = "adapter_model", .dtype = at::kFloat, .name_in_file = AdapterNames(model)};
}

at::TensorOptions ComputeOptions(const RunConfig& config, const Model& model,
                                 const ParallelContext& context) {
  // --bf16 and --fp16 compute in them whatever the weights are saved as; fp32 masters keep what
  // they cannot.
  return at::TensorOptions(context.device())
      .dtype(config.training().bf16()   ? at::kBFloat16
             : config.training().fp16() ? at::kHalf
                                        : model.weights_dtype);
}

void LogStart(const RunConfig& config, const ParallelContext& context, const std::string& flags) {
  LOG(WARNING) << "Process rank: " << context.rank() << ", device: " << context.device().str()
               << ", n_gpu: " << (context.device().is_cpu() ? 0 : 1)
               << ", distributed training: " << (context.world_size() > 1 ? "True" : "False")
               << ", 16-bits training: "
               << (config.training().bf16() || config.training().fp16() ? "True" : "False");
  if (config.parallel().sequence_parallel() && context.mesh().size("tp") == 1) {
    LOG(WARNING) << "--sequence_parallel splits nothing: --tensor_model_parallel_size is 1";
  }
  LOG(INFO) << "Training/evaluation parameters " << flags;
}

absl::Status FillWeights(const RunConfig& config, const Model& model, const TaskShape& task,
                         const ParallelContext& context, ZeroOptimizer& optimizer) {
  const ModelConfig& model_config = model.stage->config();
  const bool from_scratch = config.model().has_config_name();
  LOG(WARNING) << (from_scratch ? "You are initializing a model from scratch"
                                : "You are initializing from a pre-trained model");
  LOG(INFO) << (from_scratch ? "Model config path: " : "Model path: ") << ModelPath(config);
  if (from_scratch) {
    LOG(INFO) << "Model config: " << model_config.original.dump(2);
    const uint64_t seed = static_cast<uint64_t>(config.training().seed());
    optimizer.FillMasters([&](Parameter& parameter, const at::Tensor& master) {
      parameter.InitializeInto(master, seed);
      GiveSign();
    });
  } else {
    const std::vector<NamedTensor> weights = BaseWeights(model, optimizer);
    const RankGroup stages = MakeRankGroup(context.Group({"pp"}));
    // Stages load different tensors: what one of them lacks ends all.
    ABSL_RETURN_IF_ERROR(MakeRankGroup(context.World())
                             .Agree(LoadPretrained(model.directory, model_config, weights,
                                                   NamesOnAllRanks(stages, weights))));
  }
  if (task.adapter) {
    ABSL_RETURN_IF_ERROR(
        MakeRankGroup(context.World()).Agree(FillAdapter(config, model, task, context, optimizer)));
  }
  optimizer.AfterLoad();
  LOG(INFO) << (from_scratch ? "Pretraining a new model" : "Continuing from a pre-trained model")
            << absl::StrFormat(" - Total size=%.2fM params",
                               static_cast<double>(CountParameters(model_config)) / (1 << 20));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Tokenizer>> BuildTokenizer(const RunConfig& config,
                                                          const ModelConfig& model) {
  const std::string folder = TokenizerFolder(config);
  ABSL_ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, Tokenizer::Load(folder));
  if (tokenizer->vocab_size() > model.vocab_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("the tokenizer in ", folder, " has ids up to ", tokenizer->vocab_size() - 1,
                     ", but vocab_size in the model's ", "config.json is ", model.vocab_size,
                     "; give the model's own tokenizer by --tokenizer_name or raise vocab_size"));
  }
  return tokenizer;
}

absl::StatusOr<FileContents> ModelFolderFiles(const RunConfig& config, const Model& model,
                                              const std::optional<LoraConfig>& adapter,
                                              const std::string& flags) {
  FileContents files;
  const std::string dtype = model.weights_dtype == at::kBFloat16 ? "bfloat16" : "float32";
  if (adapter) {
    files["adapter_config.json"] = WriteLoraConfig(*adapter, ModelPath(config));
  } else {
    files["config.json"] = WriteModelConfig(model.stage->config(), dtype);
  }
  const fs::path tokenizer = TokenizerFolder(config);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                           "vocab.json", "merges.txt", "chat_template.jinja"}) {
    if (!fs::exists(tokenizer / name)) continue;
    ABSL_ASSIGN_OR_RETURN(files[name], ReadFile(tokenizer / name));
  }
  const fs::path generation = fs::path(model.directory) / "generation_config.json";
  if (!adapter && fs::exists(generation)) {
    ABSL_ASSIGN_OR_RETURN(files["generation_config.json"], ReadFile(generation));
  }
  files["run_config.json"] = flags;
  return files;
}

}  // namespace lathe
