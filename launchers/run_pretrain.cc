#include "lathe/launchers/run_pretrain.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ATen/Parallel.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/base/logging.h"
#include "lathe/base/python_json.h"
#include "lathe/checkpoint/atomic_file.h"
#include "lathe/datasets/data_loader.h"
#include "lathe/launchers/output_folder.h"
#include "lathe/launchers/task_builders.h"
#include "lathe/layers/memory_meter.h"
#include "lathe/trainer/causal_lm_loss.h"
#include "lathe/trainer/checkpointer.h"
#include "lathe/trainer/flow_callback.h"
#include "lathe/trainer/gemm_peak.h"
#include "lathe/trainer/report_callbacks.h"
#include "lathe/trainer/stop_request.h"
#include "lathe/trainer/trainer.h"
#include "lathe/trainer/training_arguments.h"

namespace lathe {
namespace {

LoaderOptions TrainLoader(const TrainingArguments& a, SamplingStrategy strategy,
                          const Communicator& dp) {
  return {.batch_size = a.per_device_train_batch_size(),
          .strategy = strategy,
          .seed = static_cast<uint64_t>(a.has_data_seed() ? a.data_seed() : a.seed()),
          .drop_last = a.dataloader_drop_last(),
          .shard_index = dp.rank(),
          .num_shards = dp.size(),
          .prefetch_threads = a.dataloader_num_workers()};
}

LoaderOptions EvalLoader(const TrainingArguments& a, const Communicator& dp) {
  return {.batch_size = a.per_device_eval_batch_size(),
          .strategy = SamplingStrategy::kSequential,
          .shard_index = dp.rank(),
          .num_shards = dp.size()};
}

bool Reports(const TrainingArguments& a) {
  const std::vector<std::string> targets = ReportTargets(a);
  for (const std::string& target : targets) {
    if (target == "tensorboard") continue;
    LOG(INFO) << "For " << target << ": TensorBoard's files are written; import them with "
              << (target == "swanlab" ? "'swanlab convert -t tensorboard --tb_logdir DIR'"
                                      : "'wandb sync DIR'");
  }
  return !targets.empty();
}

// The callbacks of this rank, in order.
std::vector<std::unique_ptr<Callback>> BuildCallbacks(const RunConfig& config,
                                                      const ParallelContext& context,
                                                      const Stage& stage, double peak_flops) {
  const TrainingArguments& a = config.training();
  std::vector<std::unique_ptr<Callback>> callbacks;
  callbacks.push_back(std::make_unique<FlowCallback>(a));
  if (a.has_early_stopping_patience()) {
    callbacks.push_back(std::make_unique<EarlyStoppingCallback>(
        a.early_stopping_patience(), a.early_stopping_threshold(), MetricForBestModel(a),
        GreaterIsBetter(a)));
  }
  if (context.rank() != 0) return callbacks;
  callbacks.push_back(std::make_unique<ConsoleCallback>(
      !a.disable_tqdm(), stage.FlopsPerToken(config.data().block_size()), peak_flops));
  if (Reports(a)) {
    const std::string directory =
        a.has_logging_dir() ? a.logging_dir()
                            : absl::StrCat(a.output_dir(), "/runs/", TensorBoardRunName());
    callbacks.push_back(
        std::make_unique<TensorBoardCallback>(directory, ConfigurationText(config)));
  }
  return callbacks;
}

std::string ResultText(const nlohmann::json& metrics) { return DumpPythonJson(metrics, 4) + "\n"; }

// --do_train false --do_eval: the model as it was loaded.
absl::StatusOr<int> EvaluateOnly(const TrainingArguments& arguments, Trainer& trainer,
                                 const ParallelContext& context) {
  if (!arguments.do_eval()) {
    return absl::InvalidArgumentError("neither --do_train nor --do_eval: nothing to do");
  }
  ABSL_ASSIGN_OR_RETURN(const nlohmann::json metrics, trainer.Evaluate());
  absl::Status written;
  if (context.rank() == 0) {
    std::printf("%s", ResultText(metrics).c_str());
    written =
        WriteFileAtomically(arguments.output_dir() + "/eval_results.json", ResultText(metrics));
  }
  ABSL_RETURN_IF_ERROR(MakeRankGroup(context.World()).Agree(written));
  return 0;
}

}  // namespace

absl::StatusOr<int> RunPretrain(const RunConfig& config, const LaunchEnvironment& environment) {
  const TrainingArguments& a = config.training();
  ABSL_RETURN_IF_ERROR(CheckTrainingArguments(a));
  ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<ParallelContext> context,
                        BuildContext(config, environment));
  LOG(WARNING) << "Process rank: " << context->rank()
               << ", device: " << context->device().str()
               << ", n_gpu: " << (context->device().is_cpu() ? 0 : 1) << ", distributed training: "
               << (context->world_size() > 1 ? "True" : "False")
               << ", 16-bits training: " << (a.bf16() ? "True" : "False");
  LOG(INFO) << "Training/evaluation parameters " << ConfigurationText(config);
  // What is wrong with the inputs is found before the output folder is touched or memory is taken.
  ABSL_ASSIGN_OR_RETURN(const ModelConfig model_config, BuildModelConfig(config));
  ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                        BuildTokenizer(config, model_config));
  ABSL_ASSIGN_OR_RETURN(const OutputFolder output,
                        ClaimOutputFolder(a, MakeRankGroup(context->World())));
  ABSL_ASSIGN_OR_RETURN(const PretrainData data,
                        BuildPretrainData(config, *tokenizer, context->rank() == 0));

  PlainRunner plain;
  RecomputeRunner recompute(plain);
  BlockRunner& runner = a.gradient_checkpointing() ? static_cast<BlockRunner&>(recompute) : plain;
  ABSL_ASSIGN_OR_RETURN(const Model model, BuildStage(config, model_config, *context, runner));

  const Communicator& dp = context->Group({"dp"});
  ABSL_ASSIGN_OR_RETURN(const SamplingStrategy strategy,
                        ParseSamplingStrategy(a.train_sampling_strategy()));
  DataLoader train(*data.train, TrainLoader(a, strategy, dp));
  std::unique_ptr<DataLoader> eval;
  if (data.eval != nullptr) eval = std::make_unique<DataLoader>(*data.eval, EvalLoader(a, dp));

  ABSL_ASSIGN_OR_RETURN(const TrainingPlan plan, MakeTrainingPlan(a, train.num_batches()));
  ABSL_ASSIGN_OR_RETURN(const LrSchedule schedule,
                        LrSchedule::Create({.type = a.lr_scheduler_type(),
                                            .num_warmup_steps = plan.warmup_steps,
                                            .num_training_steps = plan.max_steps,
                                            .learning_rate = a.learning_rate(),
                                            .kwargs = a.lr_scheduler_kwargs()}));
  ZeroOptimizer optimizer(model.stage->parameters(),
                          {.adam_beta1 = a.adam_beta1(),
                           .adam_beta2 = a.adam_beta2(),
                           .adam_epsilon = a.adam_epsilon(),
                           .weight_decay = a.weight_decay(),
                           .max_grad_norm = a.max_grad_norm()},
                          *context);
  ABSL_RETURN_IF_ERROR(FillWeights(config, model, optimizer));
  ABSL_ASSIGN_OR_RETURN(FileContents model_files, ModelFolderFiles(config, model));
  model_files["run_config.json"] = ConfigurationText(config);
  Checkpointer checkpointer(a.output_dir(), std::move(model_files), model.weights_dtype,
                            a.save_total_limit(), optimizer, *context);

  const double peak_flops =
      MeasureGemmPeak(at::TensorOptions(context->device())
                          .dtype(a.bf16() ? at::kBFloat16 : model.weights_dtype)) *
      context->world_size();
  const std::vector<std::unique_ptr<Callback>> callbacks =
      BuildCallbacks(config, *context, *model.stage, peak_flops);
  CausalLmLoss loss;
  TrainerParts parts{.stage = *model.stage,
                     .loss = loss,
                     .optimizer = optimizer,
                     .schedule = schedule,
                     .train = train,
                     .eval = eval.get(),
                     .checkpointer = checkpointer,
                     .context = *context,
                     .callbacks = {}};
  for (const auto& callback : callbacks) parts.callbacks.push_back(callback.get());
  LOG(INFO) << "Initializing Trainer";
  Trainer trainer(a, plan, std::move(parts));

  LOG(INFO) << "Start training: " << data.train->size() << " blocks of "
            << config.data().block_size() << " tokens, " << plan.max_steps << " updates";
  if (!a.do_train()) return EvaluateOnly(a, trainer, *context);
  ABSL_ASSIGN_OR_RETURN(TrainResult result, trainer.Train(output.resume_from));
  if (result.stopped_by_signal) {
    LOG(WARNING)
        << "Stopped by a signal; the run goes on from its checkpoint with the same command";
    return kStoppedExitCode;
  }
  std::map<std::string, std::string> results;
  if (a.do_eval() && eval != nullptr) {
    ABSL_ASSIGN_OR_RETURN(const nlohmann::json metrics, trainer.Evaluate());
    results["eval_results.json"] = ResultText(metrics);
  }
  if (result.took_steps) {
    result.metrics["model_flops_utilization"] =
        result.metrics["tokens_per_second"].get<double>() *
        model.stage->FlopsPerToken(config.data().block_size()) / peak_flops;
    results["train_results.json"] = ResultText(result.metrics);
  }
  results["trainer_state.json"] = trainer.state().ToJson();
  ABSL_RETURN_IF_ERROR(checkpointer.SaveModel(results));
  LOG(INFO) << "Saved the model to " << a.output_dir();
  // As Hugging Face: under a limit of 1 the newest goes too, now that the model is saved.
  if (a.save_total_limit() == 1 && trainer.state().best_model_checkpoint) {
    ABSL_RETURN_IF_ERROR(checkpointer.RemoveOthers(*trainer.state().best_model_checkpoint));
  }
  context->World().Barrier();
  return 0;
}

}  // namespace lathe
