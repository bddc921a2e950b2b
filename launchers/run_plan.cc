#include "lathe/launchers/run_plan.h"

#include <unistd.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "lathe/datasets/tokenizers/tokenizer.h"
#include "lathe/launchers/deepspeed_settings.h"
#include "lathe/launchers/task_builders.h"
#include "lathe/models/parallel_layout.h"
#include "lathe/trainer/training_arguments.h"
#include "lathe/zero/optim_by_name.h"

namespace lathe {
namespace {

absl::Status CheckModelFits(const RunConfig& config, const ModelConfig& model, int64_t seq_len,
                            int world_size) {
  const ParallelArguments& parallel = config.parallel();
  ABSL_RETURN_IF_ERROR(CheckLayout(
      model,
      {.world_size = world_size,
       .tensor_model_parallel_size = parallel.tensor_model_parallel_size(),
       .pipeline_model_parallel_size = parallel.pipeline_model_parallel_size(),
       .sequence_parallel = parallel.sequence_parallel(),
       .num_layers_per_virtual_pipeline_stage = parallel.num_layers_per_virtual_pipeline_stage(),
       .num_micro_batches = config.training().gradient_accumulation_steps(),
       .seq_len = seq_len}));
  if (config.training().recompute_method() == "block" &&
      parallel.pipeline_model_parallel_size() > 1) {
    return absl::InvalidArgumentError(
        "--recompute_method block is not implemented with --pipeline_model_parallel_size above 1; "
        "use uniform");
  }
  return absl::OkStatus();
}

absl::StatusOr<PipelinePlan> MakePipelinePlan(const RunConfig& config, const ModelConfig& model,
                                              int64_t seq_len) {
  const ParallelArguments& parallel = config.parallel();
  const LayerFlops flops = FlopsPerToken(model, seq_len);
  PipelinePlan plan;
  ABSL_ASSIGN_OR_RETURN(plan.partition,
                        PartitionLayers({.num_blocks = static_cast<int>(model.num_hidden_layers),
                                         .block_cost = flops.block,
                                         .head_cost = flops.head,
                                         .num_ranks = parallel.pipeline_model_parallel_size(),
                                         .num_layers_per_virtual_stage =
                                             parallel.num_layers_per_virtual_pipeline_stage(),
                                         .layout = parallel.pipeline_model_parallel_layout()}));
  if (parallel.has_pipeline_schedule()) {
    ABSL_ASSIGN_OR_RETURN(plan.schedule, ParseScheduleKind(parallel.pipeline_schedule()));
  } else if (plan.partition.num_chunks > 1) {
    plan.schedule = ScheduleKind::kInterleaved;
  }
  ABSL_RETURN_IF_ERROR(CheckSchedule(plan.schedule,
                                     {.num_ranks = parallel.pipeline_model_parallel_size(),
                                      .num_chunks = plan.partition.num_chunks},
                                     config.training().gradient_accumulation_steps()));
  // One stage is gradient accumulation, whatever the schedule: the one that keeps least.
  if (parallel.pipeline_model_parallel_size() == 1) plan.schedule = ScheduleKind::k1F1B;
  return plan;
}

absl::StatusOr<ZeroOptions> OptimizerOptions(const RunConfig& config) {
  const TrainingArguments& a = config.training();
  ABSL_ASSIGN_OR_RETURN(
      RuleSet rules,
      RulesByName(a.optim(), a.optim_args(),
                  {.beta1 = a.adam_beta1(), .beta2 = a.adam_beta2(), .epsilon = a.adam_epsilon()}));
  const int tp = config.parallel().tensor_model_parallel_size();
  if (rules.RestrictsCuts() && tp > 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--optim ", a.optim(), " is not implemented with --tensor_model_parallel_size ", tp,
        ": it steps whole tensors, of which each rank has a slice; use 1, or an "
        "optimizer that steps each element by itself"));
  }
  ZeroOptions options{.rules = std::move(rules),
                      .weight_decay = a.weight_decay(),
                      .max_grad_norm = a.max_grad_norm()};
  if (a.grad_accum_dtype() == "bf16") options.grad_dtype = at::kBFloat16;
  return options;
}

// What the file may ask for, but not together.
absl::Status CheckOffload(const std::string& file, const RunConfig& config,
                          const ZeroSettings& zero) {
  if (zero.offload_optimizer.device == OffloadDevice::kNvme) {
    ABSL_ASSIGN_OR_RETURN(const ZeroOptions optimizer, OptimizerOptions(config));
    if (optimizer.rules.RestrictsCuts()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--optim ", config.training().optim(), " is not implemented with ", file,
          ": zero_optimization.offload_optimizer.device \"nvme\", from which states are stepped in "
          "stretches of single elements; use \"cpu\", or another optimizer"));
    }
  }
  if (config.training().async_save() && zero.offload_optimizer.device == OffloadDevice::kNvme) {
    return absl::InvalidArgumentError(
        absl::StrCat("--async_save copies all states into memory, from which ", file,
                     ": zero_optimization.offload_optimizer.device \"nvme\" keeps them: leave one "
                     "of the two out"));
  }
  return absl::OkStatus();
}

absl::Status ApplyDeepSpeedFile(int world_size, RunPlan* run) {
  const std::string& file = run->config.training().deepspeed();
  ABSL_ASSIGN_OR_RETURN(run->deepspeed, ReadDeepSpeedJson(file));
  const ParallelArguments& parallel = run->config.parallel();
  const int model_ranks =
      parallel.tensor_model_parallel_size() * parallel.pipeline_model_parallel_size();
  ABSL_ASSIGN_OR_RETURN(DeepSpeedSettings settings,
                        ApplyDeepSpeed(*run->deepspeed, run->config,
                                       {.data_parallel_size = world_size / model_ranks,
                                        .hidden_size = run->model.hidden_size}));
  ABSL_RETURN_IF_ERROR(CheckOffload(file, settings.config, settings.zero));
  run->config = std::move(settings.config);
  for (std::string& message : settings.messages) run->messages.push_back(std::move(message));
  if (settings.zero.stage > 0 &&
      settings.zero.allgather_bucket_size != settings.zero.reduce_bucket_size) {
    run->messages.push_back(absl::StrCat(
        file,
        ": zero_optimization.allgather_bucket_size is ignored: weights are gathered in the "
        "buckets in which gradients are reduced, reduce_bucket_size"));
  }
  if (!settings.zero.contiguous_gradients) {
    run->messages.push_back(absl::StrCat(
        file,
        ": zero_optimization.contiguous_gradients false is ignored: gradients lie in flat "
        "buckets"));
  }
  if (settings.zero.offload_param.device == OffloadDevice::kNvme) {
    run->messages.push_back(absl::StrCat(
        file,
        ": zero_optimization.offload_param.buffer_count and buffer_size are ignored: each unit is "
        "read into memory of its own size, as stage3_prefetch_bucket_size says"));
  }
  run->zero = settings.zero;
  ABSL_ASSIGN_OR_RETURN(run->optimizer, OptimizerOptions(run->config));
  run->optimizer.stage = settings.zero.stage;
  run->optimizer.reduce_bucket_elements = settings.zero.reduce_bucket_size;
  run->optimizer.overlap_reduction = settings.zero.overlap_comm;
  run->optimizer.all_parameters_decay = settings.all_parameters_decay;
  run->units = {.prefetch_elements = settings.zero.prefetch_bucket_size,
                .persistence_threshold = settings.zero.param_persistence_threshold,
                .model_persistence_threshold = settings.zero.model_persistence_threshold,
                .max_live_elements = settings.zero.max_live_parameters};
  run->loss_scale = settings.loss_scale;
  return absl::OkStatus();
}

absl::Status CheckAdapter(const RunConfig& flags, const ModelConfig& model, LoraConfig* adapter) {
  ABSL_RETURN_IF_ERROR(ResolveTargets(model.model_type, adapter));
  for (const std::string& module : adapter->targets.modules_to_save) {
    if (model.tie_word_embeddings &&
        (absl::StrContains(module, "lm_head") || absl::StrContains(module, "embed_tokens"))) {
      return absl::UnimplementedError(
          absl::StrCat("modules_to_save ", module,
                       " is not implemented for a model whose head is "
                       "tied to its embedding; leave it out, or train without an adapter"));
    }
  }
  if (flags.model().has_config_name()) {
    return absl::InvalidArgumentError(
        "an adapter without the model that it belongs to is of no use, and --config_name starts a "
        "model from scratch: give --model_name_or_path");
  }
  return absl::OkStatus();
}

// Rows for tokens that were added to the tokenizer, of chats say.
absl::Status MakeRoomForTokens(const RunConfig& flags, const TaskShape& task, RunPlan* run) {
  ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                        Tokenizer::Load(TokenizerFolder(flags)));
  const int64_t rows = run->model.vocab_size, tokens = tokenizer->vocab_size();
  if (tokens <= rows) return absl::OkStatus();
  if (task.adapter) {
    return absl::UnimplementedError(absl::StrCat(
        "the tokenizer in ", TokenizerFolder(flags), " has ", tokens, " tokens, the model ", rows,
        ": new rows are not implemented with an adapter, which would leave them untrained; give "
        "the "
        "model's own tokenizer by --tokenizer_name, or train without an adapter"));
  }
  ResizeVocabulary(tokens, &run->model);
  run->messages.push_back(absl::StrCat(
      "The embedding grows from ", rows, " to ", tokens,
      " rows, as many as the tokenizer has tokens; new rows begin as the others' mean"));
  return absl::OkStatus();
}

absl::Status ResolveReshard(RunPlan* run) {
  const std::string& reshard = run->config.training().reshard_after_forward();
  if (reshard != "auto" && run->optimizer.stage < 3) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--reshard_after_forward ", reshard, " is of ZeRO stage 3; this run has stage ",
        run->optimizer.stage, ": give a --deepspeed file with stage 3, or leave it out"));
  }
  // Who sends weights away wants the memory, so nothing stays for the next micro batch's sake.
  const bool offloads = run->zero.offload_param.device != OffloadDevice::kNone;
  if (reshard == "always" || (reshard == "auto" && offloads)) {
    run->units.reshard = Reshard::kAlways;
  }
  if (reshard == "never") run->units.reshard = Reshard::kNever;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RunPlan> MakeRunPlan(const RunConfig& flags, const TaskShape& task, int world_size) {
  RunPlan run{.config = flags, .task = task};
  const int64_t seq_len = task.seq_len;
  ABSL_ASSIGN_OR_RETURN(run.model, BuildModelConfig(flags));
  if (task.resizes_vocabulary) {
    ABSL_RETURN_IF_ERROR(MakeRoomForTokens(flags, task, &run));
  }
  ABSL_RETURN_IF_ERROR(CheckModelFits(flags, run.model, seq_len, world_size));
  if (run.task.adapter) {
    ABSL_RETURN_IF_ERROR(CheckAdapter(flags, run.model, &*run.task.adapter));
  }
  ABSL_ASSIGN_OR_RETURN(run.optimizer, OptimizerOptions(flags));
  // PyTorch's GradScaler, which --fp16 alone means under Hugging Face's Trainer.
  run.loss_scale = {.enabled = flags.training().fp16(), .loss_scale_window = 2000, .hysteresis = 1};
  if (flags.training().has_deepspeed()) {
    ABSL_RETURN_IF_ERROR(ApplyDeepSpeedFile(world_size, &run));
    // Its micro batches may be others than the flags'.
    ABSL_RETURN_IF_ERROR(CheckModelFits(run.config, run.model, seq_len, world_size));
  }
  ABSL_RETURN_IF_ERROR(CheckTrainingArguments(run.config.training()));
  ABSL_RETURN_IF_ERROR(ResolveReshard(&run));
  ABSL_ASSIGN_OR_RETURN(run.pipeline, MakePipelinePlan(run.config, run.model, seq_len));
  return run;
}

absl::Status CheckMachineMemory(const RunPlan& run, int world_size) {
  const ParallelArguments& parallel = run.config.parallel();
  const double model_ranks = static_cast<double>(parallel.tensor_model_parallel_size()) *
                             static_cast<double>(parallel.pipeline_model_parallel_size());
  const double dp = world_size / model_ranks;
  const int stage = run.optimizer.stage;
  const bool weights_on_disk = run.zero.offload_param.device == OffloadDevice::kNvme;
  const bool states_on_disk = run.zero.offload_optimizer.device == OffloadDevice::kNvme;
  double states = std::numeric_limits<double>::infinity();
  for (const UpdateRule* rule : run.optimizer.rules.Rules()) {
    // presubmit: allow states are fp32 whatever the weights
    states = std::min(states, StateBytesPerElement(*rule, at::kFloat));
  }
  double per_parameter = (weights_on_disk ? 0 : 4) / (stage >= 3 ? dp : 1);
  if (!run.task.adapter) {
    per_parameter +=
        4 / (stage >= 2 ? dp : 1) + (states_on_disk ? 0 : states) / (stage >= 1 ? dp : 1);
  }
  const double parameters = static_cast<double>(CountParameters(run.model));
  const double bytes = per_parameter * parameters / model_ranks;
  const double memory =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  if (bytes <= memory) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s: a model of %.3g parameters needs %.0f GB a rank for weights, gradients and optimizer; "
      "this machine has %.0f GB",
      ModelPath(run.config), parameters, bytes / 1e9, memory / 1e9));
}

absl::StatusOr<LrSchedule> BuildSchedule(const RunPlan& run, const TrainingPlan& plan) {
  const TrainingArguments& a = run.config.training();
  LrScheduleOptions options{.type = a.lr_scheduler_type(),
                            .num_warmup_steps = plan.warmup_steps,
                            .num_training_steps = plan.max_steps,
                            .learning_rate = a.learning_rate(),
                            .kwargs = a.lr_scheduler_kwargs()};
  if (run.deepspeed) {
    ABSL_ASSIGN_OR_RETURN(
        std::optional<LrScheduleOptions> theirs,
        DeepSpeedSchedule(*run.deepspeed, run.config, plan.max_steps, plan.warmup_steps));
    if (theirs) options = *std::move(theirs);
  }
  return LrSchedule::Create(options);
}

}  // namespace lathe
