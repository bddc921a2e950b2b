#include "lathe/launchers/run_training.h"

#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ATen/ops/full.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "c10/core/CachingDeviceAllocator.h"
#include "lathe/base/logging.h"
#include "lathe/base/python_json.h"
#include "lathe/checkpoint/atomic_file.h"
#include "lathe/datasets/data_loader.h"
#include "lathe/launchers/freed_memory.h"
#include "lathe/launchers/memory_plan.h"
#include "lathe/launchers/offload.h"
#include "lathe/launchers/output_folder.h"
#include "lathe/launchers/run_plan.h"
#include "lathe/launchers/task_builders.h"
#include "lathe/launchers/trainer_builders.h"
#include "lathe/layers/memory_meter.h"
#include "lathe/trainer/causal_lm_loss.h"
#include "lathe/trainer/checkpointer.h"
#include "lathe/trainer/gemm_peak.h"
#include "lathe/trainer/stop_request.h"
#include "lathe/trainer/trainer.h"
#include "lathe/trainer/training_arguments.h"
#include "lathe/zero/unit_runner.h"

namespace lathe {
namespace {

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

void AddTraffic(const ParallelContext& context, nlohmann::json* metrics) {
  for (const ParallelContext::Traffic& traffic : context.MeasuredTraffic()) {
    const std::string key = absl::StrCat("communication_", traffic.group);
    (*metrics)[key + "_bytes"] = traffic.bytes;
    (*metrics)[key + "_seconds"] = traffic.seconds;
  }
}

std::string GB(int64_t bytes) {
  return absl::StrFormat("%.3f GB", static_cast<double>(bytes) / 1e9);
}

// A run does not depend on its prediction.
void LogPrediction(const absl::StatusOr<MemoryPlan>& memory) {
  if (memory.ok()) {
    LOG(INFO) << "Memory of the largest rank: predicted " << GB(memory->peak());
  } else {
    LOG(WARNING) << memory.status().message();
  }
}

// The most that tensors took on the device of this rank.
int64_t MeasuredPeak(c10::Device device) {
  if (device.is_cpu()) return MemoryMeter::peak_bytes();
  constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  return at::getDeviceAllocator(device.type())
      ->getDeviceStats(device.index())
      .allocated_bytes[kAll]
      .peak;
}

// What was predicted and what the largest rank took. Collective.
void ReportMemory(const absl::StatusOr<MemoryPlan>& memory, const ParallelContext& context,
                  nlohmann::json* metrics) {
  at::Tensor measured = at::full({1}, MeasuredPeak(context.device()), at::kLong);
  context.World().AllReduce(measured, ReduceOp::kMax);
  const int64_t bytes = measured.item().toLong();
  (*metrics)["measured_memory_bytes"] = bytes;
  std::string predicted;
  if (memory.ok()) {
    (*metrics)["predicted_memory_bytes"] = memory->peak();
    predicted = absl::StrCat("predicted ", GB(memory->peak()), ", ");
  }
  LOG(INFO) << "Memory of the largest rank: " << predicted << "measured " << GB(bytes);
}

// What the run leaves in its folder when it has come to its end. Collective.
absl::Status WriteResults(const TrainingArguments& arguments, TrainResult result, bool evaluates,
                          double flops_per_token, double peak_flops, Trainer& trainer,
                          Checkpointer& checkpointer) {
  std::map<std::string, std::string> results;
  if (evaluates) {
    ABSL_ASSIGN_OR_RETURN(const nlohmann::json metrics, trainer.Evaluate());
    results["eval_results.json"] = ResultText(metrics);
  }
  if (result.took_steps) {
    result.metrics["model_flops_utilization"] =
        result.metrics["tokens_per_second"].get<double>() * flops_per_token / peak_flops;
    results["train_results.json"] = ResultText(result.metrics);
  }
  results["trainer_state.json"] = trainer.state().ToJson();
  ABSL_RETURN_IF_ERROR(checkpointer.SaveModel(results));
  LOG(INFO) << "Saved the model to " << arguments.output_dir();
  // As Hugging Face: under a limit of 1 the newest goes too, now that the model is saved.
  if (arguments.save_total_limit() == 1 && trainer.state().best_model_checkpoint) {
    return checkpointer.RemoveOthers(*trainer.state().best_model_checkpoint);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Checkpointer>> BuildCheckpointer(const RunPlan& run,
                                                                const std::string& flags,
                                                                const Model& model,
                                                                ZeroOptimizer& optimizer,
                                                                const ParallelContext& context) {
  const TrainingArguments& a = run.config.training();
  ABSL_ASSIGN_OR_RETURN(FileContents model_files,
                        ModelFolderFiles(run.config, model, run.task.adapter, flags));
  return Checkpointer::Create({.output_dir = a.output_dir(),
                               .model_files = std::move(model_files),
                               .weights = WeightsToSave(model, run.task.adapter),
                               .save_total_limit = a.save_total_limit(),
                               .async_save = a.async_save()},
                              optimizer, context);
}

// Of shards of whole tensors, where the ranks are more than the tensors that can be shared out.
void WarnOfPadding(const TrainingArguments& a, const ZeroOptimizer& optimizer) {
  constexpr double kLittle = 1.25;
  if (!optimizer.rules().RestrictsCuts() || optimizer.Padding() < kLittle) return;
  LOG(WARNING)
      << "--optim " << a.optim() << " keeps each tensor within one data-parallel rank's "
      << "shard; with this model and as many ranks, weights, gradients and what is sent of "
      << "them take " << absl::StrFormat("%.2f", optimizer.Padding())
      << " times what the parameters need (docs/optimizers.md)";
}

// What all ranks must have been given alike.
std::string FlagsInCommon(const TrainingTask& task, RunConfig run) {
  run.mutable_parallel()->clear_node_rank();
  return ConfigurationText(*task.WithRun(run));
}

}  // namespace

absl::StatusOr<int> RunTraining(const TrainingTask& task, const LaunchEnvironment& environment) {
  // Cheap before dear: flags and headers, then weights, then the texts.
  ABSL_ASSIGN_OR_RETURN(const TaskShape shape, task.Shape());
  ABSL_ASSIGN_OR_RETURN(const RunPlan run, MakeRunPlan(task.Run(), shape, environment.world_size));
  const RunConfig& config = run.config;
  const TrainingArguments& a = config.training();
  const std::string flags = ConfigurationText(*task.WithRun(config));
  ABSL_RETURN_IF_ERROR(CheckMachineMemory(run, environment.world_size));
  if (a.has_memory_limit()) {
    ABSL_RETURN_IF_ERROR(
        CheckMemoryLimit(run, PlanMemory(run, environment.world_size), environment.world_size));
  }
  MemoryMeter::Install();
  if (UsesDisk(run.zero)) {
    ReturnFreedMemory();
  } else {
    KeepFreedMemory();
  }
  ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<ParallelContext> context,
                        BuildContext(config, environment, FlagsInCommon(task, config)));
  // Until here a signal ends the process: it may be waiting for ranks that never come.
  InstallStopHandlers();
  LogStart(config, *context, flags);
  for (const std::string& message : run.messages) LOG(INFO) << message;

  ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                        BuildTokenizer(config, run.model));
  ABSL_ASSIGN_OR_RETURN(const OutputFolder output,
                        ClaimOutputFolder(a, MakeRankGroup(context->World())));
  PlainRunner plain;
  RecomputeRunner recompute(plain, WhatIsRecomputed(a).num_layers);
  ZeroUnits units(run.units);
  UnitRunner runner(units, recompute);
  ABSL_ASSIGN_OR_RETURN(const Model model, BuildStage(config, run.model, *context, runner,
                                                      run.pipeline.partition, run.task.adapter));
  if (run.task.adapter) {
    ABSL_RETURN_IF_ERROR(CheckAdapter(*run.task.adapter, model, *context));
  }
  ABSL_ASSIGN_OR_RETURN(const Offload offload, BuildOffload(run.zero, context->device()));
  ZeroOptions options = run.optimizer;
  options.offload_states = offload.states;
  options.offload_weights = offload.weights;
  ZeroOptimizer optimizer(model.stage->parameters(), options, *context, &units);
  WarnOfPadding(a, optimizer);
  ABSL_RETURN_IF_ERROR(FillWeights(config, model, run.task, *context, optimizer));

  ABSL_ASSIGN_OR_RETURN(
      TaskData data, task.BuildData(config, *tokenizer, /*shows_progress=*/context->rank() == 0));
  ABSL_ASSIGN_OR_RETURN(const Loaders loaders, BuildLoaders(config, std::move(data), *context));
  ABSL_ASSIGN_OR_RETURN(const TrainingPlan plan, MakeTrainingPlan(a, loaders.train->num_batches()));
  ABSL_ASSIGN_OR_RETURN(const LrSchedule schedule, BuildSchedule(run, plan));
  ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpointer> checkpointer,
                        BuildCheckpointer(run, flags, model, optimizer, *context));

  const double peak_flops =
      MeasureGemmPeak(ComputeOptions(config, model, *context)) * context->world_size();
  // Frozen weights' gradients, a third of the products, are not made.
  const double flops_per_token =
      model.stage->FlopsPerToken(shape.seq_len) * (run.task.adapter ? 2.0 / 3.0 : 1.0);
  const std::vector<std::unique_ptr<Callback>> callbacks =
      BuildCallbacks(config, flags, *context, flops_per_token, peak_flops);
  CausalLmLoss loss;
  LossScaler loss_scaler(run.loss_scale);
  TrainerParts parts{.stage = *model.stage,
                     .loss = loss,
                     .optimizer = optimizer,
                     .schedule = schedule,
                     .train = *loaders.train,
                     .eval = loaders.eval.get(),
                     .checkpointer = *checkpointer,
                     .context = *context,
                     .loss_scaler = run.loss_scale.enabled ? &loss_scaler : nullptr,
                     .callbacks = {},
                     .pipeline = {.schedule = run.pipeline.schedule,
                                  .num_chunks = run.pipeline.partition.num_chunks}};
  for (const auto& callback : callbacks) parts.callbacks.push_back(callback.get());
  LOG(INFO) << "Initializing Trainer";
  Trainer trainer(a, plan, std::move(parts));
  if (!a.do_train()) return EvaluateOnly(a, trainer, *context);

  LOG(INFO) << "Start training: " << loaders.data.train->size() << " samples of "
            << (loaders.data.pad_id ? "up to " : "") << shape.seq_len << " tokens, "
            << plan.max_steps << " updates";
  // Not before the data are known to be enough for a block: its length costs a rehearsal time.
  const absl::StatusOr<MemoryPlan> memory = PlanMemory(run, context->world_size());
  LogPrediction(memory);
  ABSL_ASSIGN_OR_RETURN(TrainResult result, trainer.Train(output.resume_from));
  if (result.stopped_by_signal) {
    LOG(WARNING)
        << "Stopped by a signal; the run goes on from its checkpoint with the same command";
    return kStoppedExitCode;
  }
  ReportMemory(memory, *context, &result.metrics);
  if (config.parallel().log_communication()) AddTraffic(*context, &result.metrics);
  ABSL_RETURN_IF_ERROR(WriteResults(a, std::move(result), a.do_eval() && loaders.eval != nullptr,
                                    flops_per_token, peak_flops, trainer, *checkpointer));
  context->World().Barrier();
  return 0;
}

}  // namespace lathe
