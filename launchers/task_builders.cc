#include "lathe/launchers/task_builders.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "lathe/base/beacon.h"
#include "lathe/base/config/json.h"
#include "lathe/base/config/schema.h"
#include "lathe/base/logging.h"
#include "lathe/base/read_file.h"
#include "lathe/checkpoint/checkpoint.h"
#include "lathe/datasets/group_texts.h"
#include "lathe/datasets/jsonl_source.h"
#include "lathe/datasets/tokenize.h"
#include "lathe/launchers/device.h"
#include "lathe/launchers/rank_meeting.h"
#include "lathe/models/auto_model.h"
#include "lathe/models/pretrained.h"
#include "lathe/trainer/checkpointer.h"
#include "lathe/trainer/progress_bar.h"
#include "lathe/trainer/stop_request.h"
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

std::string TokenizerFolder(const RunConfig& config, const std::string& model_folder) {
  return config.model().has_tokenizer_name() ? config.model().tokenizer_name() : model_folder;
}

absl::StatusOr<std::shared_ptr<const TokenStore>> Tokenize(const RunConfig& config,
                                                           const Tokenizer& tokenizer,
                                                           const std::vector<std::string>& files,
                                                           bool shows_progress) {
  const DataArguments& data = config.data();
  const JsonlOptions options{
      .text_column = data.text_column_name(),
      .on_bad_record = data.on_bad_record() == "skip" ? OnBadRecord::kSkip : OnBadRecord::kFail};
  ABSL_ASSIGN_OR_RETURN(const JsonlSource source, JsonlSource::Open(files, options));
  if (source.num_skipped() > 0) {
    LOG(WARNING) << source.num_skipped() << " bad lines were skipped (--on_bad_record skip)";
  }
  ProgressBar bar({.total_steps = source.size(),
                   .title = "Tokenising",
                   .disabled = config.training().disable_tqdm() || !shows_progress});
  const auto encode = [&](std::string_view text, std::vector<int32_t>* ids) -> absl::Status {
    if (StopRequested()) return absl::CancelledError("stopped by a signal while tokenising");
    GiveSign();
    return tokenizer.EncodeAppend(text, /*add_special_tokens=*/true, ids);
  };
  const TokenizeOptions tokenize{
      .num_workers = data.preprocessing_num_workers(),
      .progress = [&](int64_t done, int64_t) { bar.Update({.step = done}); }};
  ABSL_ASSIGN_OR_RETURN(TokenStore store, TokenizeDocuments(source, encode, tokenize));
  bar.Finish();
  LOG(INFO) << "Tokenised " << store.num_documents() << " documents: " << store.num_tokens()
            << " tokens";
  return std::make_shared<const TokenStore>(std::move(store));
}

absl::StatusOr<std::shared_ptr<const Dataset>> Group(const RunConfig& config,
                                                     std::shared_ptr<const TokenStore> tokens,
                                                     int64_t first, int64_t last,
                                                     int64_t max_samples) {
  ABSL_ASSIGN_OR_RETURN(
      std::shared_ptr<const Dataset> blocks,
      GroupTexts(std::move(tokens), {.block_size = config.data().block_size(),
                                     .num_shards = config.data().preprocessing_num_workers(),
                                     .first_document = first,
                                     .last_document = last}));
  if (max_samples <= 0 || max_samples >= blocks->size()) return blocks;
  return std::make_shared<SliceDataset>(blocks, 0, max_samples);
}

}  // namespace

std::string ModelPath(const RunConfig& config) {
  return config.model().has_config_name() ? config.model().config_name()
                                          : config.model().model_name_or_path();
}

std::string ConfigurationText(const RunConfig& config) {
  const absl::StatusOr<ConfigSchema> schema = ConfigSchema::Create(RunConfig::descriptor());
  return schema.ok() ? ToJson(*schema, config) : std::string(schema.status().message());
}

absl::StatusOr<std::unique_ptr<ParallelContext>> BuildContext(
    const RunConfig& config, const LaunchEnvironment& environment) {
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
  ABSL_ASSIGN_OR_RETURN(RankMeeting meeting, MeetOtherRanks(config, environment));
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
                                 const LayerPartition& partition) {
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
  const StageOptions options{.sequence_parallel = config.parallel().sequence_parallel(),
                             .recompute_mlp = WhatIsRecomputed(config.training()).mlp,
                             .allocates = false,  // the optimizer does, what this rank keeps
                             .boundaries = partition.boundaries};
  ABSL_ASSIGN_OR_RETURN(
      model.stage, BuildModel(model_config, context, c10::typeMetaToScalarType(compute.dtype()),
                              runner, options));
  return model;
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

void LogStart(const RunConfig& config, const ParallelContext& context) {
  LOG(WARNING) << "Process rank: " << context.rank() << ", device: " << context.device().str()
               << ", n_gpu: " << (context.device().is_cpu() ? 0 : 1)
               << ", distributed training: " << (context.world_size() > 1 ? "True" : "False")
               << ", 16-bits training: "
               << (config.training().bf16() || config.training().fp16() ? "True" : "False");
  if (config.parallel().sequence_parallel() && context.mesh().size("tp") == 1) {
    LOG(WARNING) << "--sequence_parallel splits nothing: --tensor_model_parallel_size is 1";
  }
  LOG(INFO) << "Training/evaluation parameters " << ConfigurationText(config);
}

absl::Status FillWeights(const RunConfig& config, const Model& model,
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
    const std::vector<NamedTensor> weights = optimizer.Weights(model.weights_dtype);
    const RankGroup stages = MakeRankGroup(context.Group({"pp"}));
    // Stages load different tensors: what one of them lacks ends all.
    ABSL_RETURN_IF_ERROR(MakeRankGroup(context.World())
                             .Agree(LoadPretrained(model.directory, model_config, weights,
                                                   NamesOnAllRanks(stages, weights))));
  }
  optimizer.AfterLoad();
  LOG(INFO) << (from_scratch ? "Pretraining a new model" : "Continuing from a pre-trained model")
            << absl::StrFormat(" - Total size=%.2fM params",
                               static_cast<double>(CountParameters(model_config)) / (1 << 20));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Tokenizer>> BuildTokenizer(const RunConfig& config,
                                                          const ModelConfig& model) {
  const std::string folder = TokenizerFolder(config, FolderOf(ModelPath(config)));
  ABSL_ASSIGN_OR_RETURN(std::unique_ptr<Tokenizer> tokenizer, Tokenizer::Load(folder));
  if (tokenizer->vocab_size() > model.vocab_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("the tokenizer in ", folder, " has ids up to ", tokenizer->vocab_size() - 1,
                     ", but vocab_size in the model's ", "config.json is ", model.vocab_size,
                     "; give the model's own tokenizer by --tokenizer_name or raise vocab_size"));
  }
  return tokenizer;
}

absl::StatusOr<PretrainData> BuildPretrainData(const RunConfig& config, const Tokenizer& tokenizer,
                                               bool shows_progress) {
  const DataArguments& data = config.data();
  const std::vector<std::string> train_files(data.train_files().begin(), data.train_files().end());
  const std::vector<std::string> eval_files(data.validation_files().begin(),
                                            data.validation_files().end());
  if (train_files.empty())
    return absl::InvalidArgumentError("--train_files is missing: JSONL files with the text");
  const bool evaluates = config.training().eval_strategy() != "no" || config.training().do_eval();
  if (evaluates && eval_files.empty() && data.validation_split_percentage() == 0) {
    return absl::InvalidArgumentError(
        "evaluation is asked for, but there are no data for it; give --validation_files or "
        "--validation_split_percentage, or --eval_strategy no");
  }
  PretrainData result;
  ABSL_ASSIGN_OR_RETURN(const std::shared_ptr<const TokenStore> tokens,
                        Tokenize(config, tokenizer, train_files, shows_progress));
  // As run_clm: the first documents are held out.
  const bool splits = evaluates && eval_files.empty();
  const int64_t held_out =
      splits ? PercentageOf(tokens->num_documents(), data.validation_split_percentage()) : 0;
  ABSL_ASSIGN_OR_RETURN(result.train,
                        Group(config, tokens, held_out, -1, data.max_train_samples()));
  if (!evaluates) return result;
  if (splits && held_out == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--validation_split_percentage ", data.validation_split_percentage(), " of ",
        tokens->num_documents(), " documents is none; raise it or give --validation_files"));
  }
  if (splits) {
    ABSL_ASSIGN_OR_RETURN(result.eval, Group(config, tokens, 0, held_out, data.max_eval_samples()));
    return result;
  }
  ABSL_ASSIGN_OR_RETURN(const std::shared_ptr<const TokenStore> eval_tokens,
                        Tokenize(config, tokenizer, eval_files, shows_progress));
  ABSL_ASSIGN_OR_RETURN(result.eval, Group(config, eval_tokens, 0, -1, data.max_eval_samples()));
  return result;
}

absl::StatusOr<FileContents> ModelFolderFiles(const RunConfig& config, const Model& model) {
  FileContents files;
  const std::string dtype = model.weights_dtype == at::kBFloat16 ? "bfloat16" : "float32";
  files["config.json"] = WriteModelConfig(model.stage->config(), dtype);
  const fs::path tokenizer = TokenizerFolder(config, model.directory);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                           "vocab.json", "merges.txt", "chat_template.jinja"}) {
    if (!fs::exists(tokenizer / name)) continue;
    ABSL_ASSIGN_OR_RETURN(files[name], ReadFile(tokenizer / name));
  }
  const fs::path generation = fs::path(model.directory) / "generation_config.json";
  if (fs::exists(generation)) {
    ABSL_ASSIGN_OR_RETURN(files["generation_config.json"], ReadFile(generation));
  }
  files["run_config.json"] = ConfigurationText(config);
  return files;
}

}  // namespace lathe
