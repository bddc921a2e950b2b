#include "lathe/trainer/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>
#include <utility>

#include "ATen/ops/constant_pad_nd.h"
#include "ATen/ops/tensor.h"
#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/base/beacon.h"
#include "lathe/base/logging.h"
#include "lathe/base/process_start.h"
#include "lathe/checkpoint/checkpoint_directory.h"
#include "lathe/layers/memory_meter.h"
#include "lathe/trainer/bound_stage.h"
#include "lathe/trainer/stop_request.h"
#include "lathe/trainer/training_arguments.h"

namespace lathe {
namespace {

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The sum of each number over the ranks of a group.
std::vector<double> Sum(const Communicator& group, std::vector<double> values) {
  at::Tensor tensor = at::tensor(values, at::kDouble);
  group.AllReduce(tensor);
  const double* sums = tensor.data_ptr<double>();
  return std::vector<double>(sums, sums + values.size());
}

// What an evaluation gives to judge a model by.
constexpr char kMetric[] = "eval_loss";

bool IsDirectory(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
}

double Rounded(double value, double digits) { return std::round(value * digits) / digits; }

// Hugging Face's speed_metrics.
void AddSpeed(const std::string& split, double runtime, double samples, double steps,
              nlohmann::json* metrics) {
  (*metrics)[split + "_runtime"] = Rounded(runtime, 1e4);
  if (runtime <= 0) return;
  (*metrics)[split + "_samples_per_second"] = Rounded(samples / runtime, 1e3);
  (*metrics)[split + "_steps_per_second"] = Rounded(steps / runtime, 1e3);
}

// Hugging Face's TrainerControl as its states have it: before training, and while it saves.
nlohmann::json ControlState(bool saves, const TrainerControl& control) {
  return {{"args",
           {{"should_training_stop", control.should_training_stop},
            {"should_epoch_stop", false},
            {"should_save", saves},
            {"should_evaluate", control.should_evaluate},
            {"should_log", control.should_log}}},
          {"attributes", nlohmann::json::object()}};
}

}  // namespace

Trainer::Trainer(const TrainingArguments& arguments, const TrainingPlan& plan, TrainerParts parts)
    : arguments_(arguments), plan_(plan), parts_(std::move(parts)) {
  parts_.pipeline.group = &parts_.context.Group({"pp"});
  parts_.pipeline.device = parts_.context.device();
  if (parts_.pipeline.schedule == ScheduleKind::kZeroBubbleH1) {
    deferred_ = std::make_unique<DeferringSink>(parts_.optimizer.sink());
    parts_.pipeline.deferred = deferred_.get();
    for (Parameter* parameter : parts_.stage.parameters()) {
      if (parameter->trainable()) parameter->set_sink(deferred_.get());
    }
  }
  state_.max_steps = plan_.max_steps;
  state_.num_train_epochs = plan_.num_train_epochs;
  state_.logging_steps = plan_.logging_steps;
  state_.eval_steps = plan_.eval_steps;
  state_.save_steps = plan_.save_steps;
  state_.train_batch_size = arguments_.per_device_train_batch_size();
  state_.is_local_process_zero = state_.is_world_process_zero = parts_.context.rank() == 0;
  state_.stateful_callbacks["TrainerControl"] = ControlState(/*saves=*/false, control_);
}

absl::Status Trainer::Resume(const std::string& checkpoint) {
  const TrainerState fresh = state_;
  ABSL_RETURN_IF_ERROR(parts_.checkpointer.Load(checkpoint, &state_, &loop_));
  if (state_.global_step < 0 || state_.global_step > plan_.max_steps) {
    return absl::InvalidArgumentError(absl::StrCat(
        checkpoint, " is at step ", state_.global_step, ", past the end of this run at ",
        plan_.max_steps, "; raise --max_steps or --num_train_epochs"));
  }
  const std::string differences = DifferentArguments(fresh, state_);
  if (!differences.empty()) {
    LOG(WARNING) << "The checkpoint was written with other arguments: " << differences;
  }
  if (parts_.loss_scaler != nullptr) parts_.loss_scaler->Restore(loop_.loss_scale);
  // What this run's flags say, not the earlier one's.
  state_.max_steps = fresh.max_steps;
  state_.num_train_epochs = fresh.num_train_epochs;
  state_.logging_steps = fresh.logging_steps;
  state_.eval_steps = fresh.eval_steps;
  state_.save_steps = fresh.save_steps;
  state_.train_batch_size = fresh.train_batch_size;
  state_.is_local_process_zero = fresh.is_local_process_zero;
  state_.is_world_process_zero = fresh.is_world_process_zero;
  // The output folder may have moved, with the best checkpoint in it.
  if (state_.best_global_step && state_.best_model_checkpoint) {
    const std::string best = CheckpointPath(*state_.best_global_step);
    if (IsDirectory(best)) state_.best_model_checkpoint = best;
  }
  if (state_.best_model_checkpoint && !IsDirectory(*state_.best_model_checkpoint)) {
    LOG(WARNING) << "The best checkpoint " << *state_.best_model_checkpoint
                 << " does not exist any more; the run goes on without it";
    state_.best_model_checkpoint.reset();
  }
  LOG(INFO) << "Continuing training from " << checkpoint << " at step " << state_.global_step;
  return absl::OkStatus();
}

std::string Trainer::CheckpointPath(int64_t step) const {
  return absl::StrCat(parts_.checkpointer.output_dir(), "/", CheckpointName(step));
}

absl::StatusOr<TrainResult> Trainer::Train(const std::string& resume_from) {
  if (!resume_from.empty()) {
    ABSL_RETURN_IF_ERROR(Resume(resume_from));
  }
  train_start_ = Now();
  for (Callback* callback : parts_.callbacks) {
    ABSL_RETURN_IF_ERROR(callback->OnTrainBegin(state_, control_));
  }
  if (std::exchange(loop_.evaluation_due, 0) > 0) {
    control_.should_evaluate = true;
    control_.should_save = std::exchange(loop_.save_due, 0) > 0;
    ABSL_RETURN_IF_ERROR(Act());
  }
  const int64_t first_epoch = state_.global_step / plan_.updates_per_epoch;
  int64_t first_update = state_.global_step % plan_.updates_per_epoch;
  // The checkpoint of an epoch's last update is older than what is done at the end of the epoch. A
  // callback may have said that the resumed run had come to its end.
  const bool at_epoch_end =
      first_update == 0 || state_.global_step >= plan_.max_steps || control_.should_training_stop;
  if (at_epoch_end && state_.global_step > loop_.last_epoch_end_step && !stop_signal_) {
    ABSL_RETURN_IF_ERROR(EndEpoch());
  }
  for (int64_t epoch = first_epoch;
       epoch < plan_.num_train_epochs && state_.global_step < plan_.max_steps &&
       !control_.should_training_stop && !stop_signal_;
       ++epoch) {
    ABSL_RETURN_IF_ERROR(TrainEpoch(epoch, first_update));
    first_update = 0;
  }
  ABSL_RETURN_IF_ERROR(FinishSave());
  TrainResult result;
  result.stopped_by_signal = stop_signal_;
  if (!stop_signal_) {
    ABSL_RETURN_IF_ERROR(Finish());
  }
  result.took_steps = steps_this_run_ > 0;
  result.metrics = TrainMetrics();
  for (Callback* callback : parts_.callbacks) {
    ABSL_RETURN_IF_ERROR(callback->OnTrainEnd(state_));
  }
  return result;
}

absl::Status Trainer::TrainEpoch(int64_t epoch, int64_t first_update) {
  parts_.train.Seek(epoch, first_update * plan_.accumulation);
  for (int64_t update = first_update; update < plan_.updates_per_epoch; ++update) {
    ABSL_RETURN_IF_ERROR(Update(epoch, update));
    if (control_.should_training_stop || stop_signal_) break;
  }
  return stop_signal_ ? absl::OkStatus() : EndEpoch();
}

absl::Status Trainer::EndEpoch() {
  loop_.last_epoch_end_step = state_.global_step;
  for (Callback* callback : parts_.callbacks) {
    ABSL_RETURN_IF_ERROR(callback->OnEpochEnd(state_, control_));
  }
  return Act();
}

MicroBatch Trainer::OnDevice(const MicroBatch& batch) const {
  const c10::Device device = parts_.context.device();
  return {batch.input_ids.to(device), batch.labels.to(device), batch.dropout};
}

void Trainer::FillUp(std::vector<MicroBatch>& batches) const {
  if (parts_.context.mesh().size("pp") == 1) return;
  int64_t longest = 0;
  for (const MicroBatch& batch : batches) longest = std::max(longest, batch.labels.size(1));
  for (MicroBatch& batch : batches) {
    const int64_t more = longest - batch.labels.size(1);
    if (more == 0) continue;
    batch.input_ids = at::constant_pad_nd(batch.input_ids, {0, more}, 0);
    batch.labels = at::constant_pad_nd(batch.labels, {0, more}, kIgnoredLabel);
  }
}

Trainer::Window Trainer::NextWindow(int64_t num_batches) {
  Window window;
  for (int64_t i = 0; i < num_batches; ++i) {
    Batch batch = parts_.train.Next();
    window.tokens += static_cast<double>(batch.input_ids.numel());
    const DropoutKey key{static_cast<uint64_t>(arguments_.seed()), std::move(batch.sample_numbers)};
    const MicroBatch on_host{batch.input_ids, batch.labels, key};
    window.weight += parts_.loss.Weight(on_host);
    window.batches.push_back(OnDevice(on_host));
  }
  FillUp(window.batches);
  const std::vector<double> sums =
      Sum(parts_.context.Group({"dp"}), {window.weight, window.tokens});
  window.weight = sums[0];
  window.tokens = sums[1];
  return window;
}

absl::Status Trainer::Update(int64_t epoch, int64_t update_in_epoch) {
  const double start = Now();
  parts_.context.set_step(state_.global_step + 1);
  BeginPhase(Phase::kData, state_.global_step + 1);
  const int64_t num_batches = plan_.WindowSize(update_in_epoch);
  const Window window = NextWindow(num_batches);

  parts_.optimizer.BeginUpdate();
  const double loss_scale = parts_.loss_scaler == nullptr ? 1 : parts_.loss_scaler->scale();
  BoundStage stage(parts_.stage, parts_.loss, parts_.optimizer, window.batches,
                   std::vector<double>(num_batches, /*total_weight=*/window.weight / loss_scale));
  const double my_loss = ForwardBackward(stage, static_cast<int>(num_batches), parts_.pipeline);
  BeginPhase(Phase::kReduction);
  parts_.optimizer.FinishGradients();
  // The loss is where a pipeline's last stage is. Tensor ranks have the same: it is counted once. A
  // stop that one rank was asked for is everybody's: all save the same step.
  const bool counts = parts_.context.Group({"tp"}).rank() == 0;
  // So is the end of a save in the background, once it has ended on all.
  const std::vector<double> outcome =
      Sum(parts_.context.World(), {counts ? my_loss : 0.0, StopRequested() ? 1.0 : 0.0,
                                   parts_.checkpointer.save_is_over() ? 1.0 : 0.0});
  const double loss = outcome[0] / loss_scale;
  stop_signal_ = outcome[1] > 0;
  const bool save_is_over = outcome[2] == parts_.context.world_size();

  const double learning_rate =
      arguments_.learning_rate() * parts_.schedule.Factor(state_.global_step - loop_.overflows);
  parts_.checkpointer.WaitForCopy();
  const ZeroOptimizer::StepResult step =
      parts_.optimizer.Step(learning_rate, std::isfinite(loss), loss_scale);

  ++state_.global_step;
  state_.epoch = epoch + static_cast<double>(update_in_epoch * plan_.accumulation + num_batches) /
                             plan_.batches_per_epoch;
  const ModelConfig& config = parts_.stage.config();
  state_.total_flos +=
      6.0 * window.tokens *
      static_cast<double>(CountParameters(config) - config.vocab_size * config.hidden_size);
  if (++steps_this_run_ == 1) {
    first_step_seconds_ = SecondsSinceProcessStart();
  } else {
    tokens_after_first_step_ += window.tokens;
    seconds_after_first_step_ += Now() - start;
  }
  if (save_is_over) {
    ABSL_RETURN_IF_ERROR(FinishSave());
  }
  if (parts_.loss_scaler != nullptr && parts_.loss_scaler->dynamic()) {
    ABSL_RETURN_IF_ERROR(UpdateLossScale(step.skipped));
  } else {
    ABSL_RETURN_IF_ERROR(CountNonFinite(loss, step.grad_norm, step.skipped));
  }
  return AfterUpdate(loss, step.grad_norm, learning_rate);
}

absl::Status Trainer::UpdateLossScale(bool overflow) {
  if (overflow) {
    ++loop_.nonfinite_steps;
    ++loop_.overflows;
  }
  const absl::StatusOr<std::string> message = parts_.loss_scaler->Update(overflow);
  loop_.loss_scale = parts_.loss_scaler->state();
  if (!message.ok()) return Abort(message.status());
  if (!message->empty()) LOG(INFO) << "Step " << state_.global_step << ": " << *message;
  return absl::OkStatus();
}

absl::Status Trainer::Abort(const absl::Status& why) {
  // The weights are as the last good update left them.
  ABSL_RETURN_IF_ERROR(Save());
  ABSL_RETURN_IF_ERROR(FinishSave());
  return why;
}

absl::Status Trainer::CountNonFinite(double loss, double grad_norm, bool skipped) {
  if (!skipped) {
    loop_.nonfinite_in_a_row = 0;
    return absl::OkStatus();
  }
  ++loop_.nonfinite_steps;
  ++loop_.nonfinite_in_a_row;
  LOG(WARNING) << "Step " << state_.global_step << ": loss " << loss << ", gradient norm "
               << grad_norm << ": not finite, the update was skipped (" << loop_.nonfinite_steps
               << " so far)";
  if (loop_.nonfinite_in_a_row < arguments_.max_nonfinite_steps()) return absl::OkStatus();
  return Abort(absl::AbortedError(absl::StrCat("loss or gradient was not finite in ",
                                               loop_.nonfinite_in_a_row,
                                               " updates in a row, up to step ", state_.global_step,
                                               "; lower --learning_rate or look at the data "
                                               "(--max_nonfinite_steps says how many are borne)")));
}

absl::Status Trainer::AfterUpdate(double loss, double grad_norm, double learning_rate) {
  if (std::isfinite(loss)) {
    loop_.loss_since_log += loss;
    ++loop_.steps_since_log;
  }
  loop_.last_grad_norm = grad_norm;
  loop_.last_learning_rate = learning_rate;
  const StepInfo info{.loss = loss, .tokens_per_second = TokensPerSecond()};
  for (Callback* callback : parts_.callbacks) {
    ABSL_RETURN_IF_ERROR(callback->OnStepEnd(state_, info, control_));
  }
  if (stop_signal_) control_.should_save = true;
  return Act();
}

absl::Status Trainer::Act() {
  if (std::exchange(control_.should_log, false) && state_.global_step > loop_.last_logged_step) {
    nlohmann::json logs = nlohmann::json::object();
    if (loop_.steps_since_log > 0) {
      logs["loss"] = loop_.loss_since_log / static_cast<double>(loop_.steps_since_log);
    }
    if (std::isfinite(loop_.last_grad_norm)) logs["grad_norm"] = loop_.last_grad_norm;
    logs["learning_rate"] = loop_.last_learning_rate;
    loop_.total_loss += std::exchange(loop_.loss_since_log, 0);
    loop_.steps_since_log = 0;
    loop_.last_logged_step = state_.global_step;
    ABSL_RETURN_IF_ERROR(Log(std::move(logs)));
  }
  if (std::exchange(control_.should_evaluate, false) && parts_.eval != nullptr) {
    const absl::Status evaluated = EvaluateAndJudge();
    if (absl::IsCancelled(evaluated)) {
      stop_signal_ = true;
      loop_.evaluation_due = 1;
      loop_.save_due = control_.should_save ? 1 : 0;
      control_.should_save = true;
    } else {
      ABSL_RETURN_IF_ERROR(evaluated);
    }
  }
  if (std::exchange(control_.should_save, false)) return Save();
  return absl::OkStatus();
}

absl::Status Trainer::Log(nlohmann::json logs) {
  logs["epoch"] = state_.epoch;
  nlohmann::json entry = logs;
  entry["step"] = state_.global_step;
  state_.log_history.push_back(std::move(entry));
  for (Callback* callback : parts_.callbacks) {
    ABSL_RETURN_IF_ERROR(callback->OnLog(state_, logs));
  }
  return absl::OkStatus();
}

absl::StatusOr<nlohmann::json> Trainer::Evaluate() {
  const double start = Now();
  BeginPhase(Phase::kEvaluation, state_.global_step);
  DataLoader& loader = *parts_.eval;
  loader.Seek(0, 0);
  double loss_sum = 0, samples = 0;
  // A pipeline's ranks work side by side on several batches; one rank would only take more memory.
  const int pp = parts_.context.mesh().size("pp");
  const int64_t window = pp == 1 ? 1 : 4 * pp;
  for (int64_t first = 0; first < loader.num_batches(); first += window) {
    std::vector<MicroBatch> batches;
    std::vector<double> weights, real_samples;
    for (int64_t i = first; i < std::min(first + window, loader.num_batches()); ++i) {
      Batch batch = loader.Next();
      // Hugging Face's mean: of the batches' means, weighted by samples. Samples that only fill up
      // the last batch of a rank do not count, so that the number of ranks does not matter; a rank
      // that has no others still takes part.
      const int64_t rows = std::max<int64_t>(1, batch.num_real_samples);
      const MicroBatch on_host{batch.input_ids.narrow(0, 0, rows), batch.labels.narrow(0, 0, rows)};
      weights.push_back(parts_.loss.Weight(on_host));
      batches.push_back(OnDevice(on_host));
      real_samples.push_back(static_cast<double>(batch.num_real_samples));
    }
    FillUp(batches);
    BoundStage stage(parts_.stage, parts_.loss, parts_.optimizer, batches, std::move(weights));
    // Only where a pipeline's last stage is.
    ForwardOnly(stage, static_cast<int>(batches.size()), parts_.pipeline, [&](int i, double loss) {
      loss_sum += loss * real_samples[i];
      samples += real_samples[i];
    });
    // Evaluations can take long, and a scheduler's patience is short.
    if (Sum(parts_.context.World(), {StopRequested() ? 1.0 : 0.0})[0] > 0) {
      return absl::CancelledError("stopped by a signal during an evaluation");
    }
  }
  const std::vector<double> sums = Sum(parts_.context.Group({"dp", "pp"}), {loss_sum, samples});
  nlohmann::json metrics = nlohmann::json::object();
  metrics["eval_loss"] = sums[0] / std::max(sums[1], 1.0);
  AddSpeed("eval", Now() - start, sums[1], static_cast<double>(loader.num_batches()), &metrics);
  ABSL_RETURN_IF_ERROR(Log(metrics));
  metrics["epoch"] = state_.epoch;
  metrics["perplexity"] = std::exp(metrics["eval_loss"].get<double>());
  return metrics;
}

absl::Status Trainer::EvaluateAndJudge() {
  ABSL_ASSIGN_OR_RETURN(const nlohmann::json metrics, Evaluate());
  // Callbacks see the best before this evaluation, as Hugging Face's do.
  for (Callback* callback : parts_.callbacks) {
    ABSL_RETURN_IF_ERROR(callback->OnEvaluate(state_, metrics, control_));
  }
  if (!TracksBestModel(arguments_)) return absl::OkStatus();
  const bool greater = GreaterIsBetter(arguments_);
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const double best = state_.best_metric.value_or(greater ? -kInfinity : kInfinity);
  const double value = metrics[kMetric].get<double>();
  // A metric that is not a number is no better than any.
  const bool better = greater ? value > best : value < best;
  if (better) {
    state_.best_metric = value;
    if (arguments_.save_strategy() != "no") state_.best_global_step = state_.global_step;
  }
  if (arguments_.save_strategy() == "best") control_.should_save = better;
  return absl::OkStatus();
}

absl::Status Trainer::Save() {
  ABSL_RETURN_IF_ERROR(FinishSave());
  if (state_.best_global_step) {
    // The best step counts if it has been, or is being, saved.
    const std::string best = CheckpointPath(*state_.best_global_step);
    const bool is_this = *state_.best_global_step == state_.global_step;
    if (is_this || IsDirectory(best)) state_.best_model_checkpoint = best;
  }
  state_.stateful_callbacks["TrainerControl"] = ControlState(/*saves=*/true, control_);
  parts_.checkpointer.BeginSave(state_, loop_);
  if (!arguments_.async_save()) return FinishSave();
  LOG(INFO) << "Saving " << CheckpointPath(state_.global_step) << " in the background";
  return absl::OkStatus();
}

absl::Status Trainer::FinishSave() {
  if (!parts_.checkpointer.saving()) return absl::OkStatus();
  ABSL_ASSIGN_OR_RETURN(const std::string checkpoint, parts_.checkpointer.FinishSave());
  LOG(INFO) << "Saved " << checkpoint;
  for (Callback* callback : parts_.callbacks) {
    ABSL_RETURN_IF_ERROR(callback->OnSave(state_, checkpoint));
  }
  return absl::OkStatus();
}

double Trainer::TokensPerSecond() const {
  return seconds_after_first_step_ > 0 ? tokens_after_first_step_ / seconds_after_first_step_ : 0;
}

nlohmann::json Trainer::TrainMetrics() const {
  nlohmann::json metrics = nlohmann::json::object();
  // As Hugging Face counts: what the flags ask for, partial batches and all.
  const double samples =
      arguments_.max_steps() > 0
          ? static_cast<double>(plan_.max_steps) * arguments_.per_device_train_batch_size() *
                static_cast<double>(plan_.accumulation) * parts_.context.mesh().size("dp")
          : static_cast<double>(parts_.train.num_samples()) * arguments_.num_train_epochs();
  AddSpeed("train", Now() - train_start_, samples, static_cast<double>(plan_.max_steps), &metrics);
  metrics["total_flos"] = state_.total_flos;
  metrics["train_loss"] = (loop_.total_loss + loop_.loss_since_log) /
                          std::max(static_cast<double>(state_.global_step), 0.001);
  metrics["epoch"] = state_.epoch;
  metrics["tokens_per_second"] = TokensPerSecond();
  metrics["first_step_seconds"] = first_step_seconds_;
  metrics["peak_memory_bytes"] = PeakResidentBytes();
  metrics["nonfinite_steps"] = loop_.nonfinite_steps;
  return metrics;
}

absl::Status Trainer::Finish() {
  if (loop_.nonfinite_in_a_row > 0) {
    LOG(WARNING) << "The last " << loop_.nonfinite_in_a_row
                 << " updates had a loss or gradient that was not finite and were skipped";
  }
  nlohmann::json logs = TrainMetrics();
  for (const char* ours : {"epoch", "tokens_per_second", "first_step_seconds", "peak_memory_bytes",
                           "nonfinite_steps"}) {
    logs.erase(ours);
  }
  ABSL_RETURN_IF_ERROR(Log(std::move(logs)));
  if (arguments_.load_best_model_at_end() && state_.best_model_checkpoint) {
    LOG(INFO) << "Loading best model from " << *state_.best_model_checkpoint
              << " (score: " << *state_.best_metric << ")";
    return parts_.checkpointer.LoadWeights(*state_.best_model_checkpoint);
  }
  return absl::OkStatus();
}

}  // namespace lathe
