// Trainer: the loop. Batches in, updates out, with logging, evaluation, checkpoints and resumption
// exactly where Hugging Face's Trainer has them; everything else is a component that it is given.
//
//   Trainer trainer(arguments, plan,
//                   {.stage = *stage, .loss = loss, .optimizer = optimizer, .schedule = schedule,
//                    .train = loader, .eval = nullptr, .checkpointer = checkpointer,
//                    .context = *context, .callbacks = {&flow, &console}});
//   absl::StatusOr<TrainResult> result = trainer.Train(/*resume_from=*/"");
//
// All ranks make the same calls. Throws CollectiveError when a peer is gone.
// Thread rule: one thread.
#ifndef LATHE_TRAINER_TRAINER_H_
#define LATHE_TRAINER_TRAINER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/datasets/data_loader.h"
#include "lathe/layers/gradient_sink.h"
#include "lathe/models/stage.h"
#include "lathe/pipeline_parallel/schedule.h"
#include "lathe/trainer/callback.h"
#include "lathe/trainer/checkpointer.h"
#include "lathe/trainer/loop_state.h"
#include "lathe/trainer/lr_schedule.h"
#include "lathe/trainer/trainer_state.h"
#include "lathe/trainer/training_arguments.pb.h"
#include "lathe/trainer/training_plan.h"
#include "lathe/zero/loss_scaler.h"
#include "lathe/zero/zero_optimizer.h"
#include "nlohmann/json.hpp"

namespace lathe {

struct TrainerParts {
  Stage& stage;
  const LossFunction& loss;
  ZeroOptimizer& optimizer;
  const LrSchedule& schedule;
  DataLoader& train;
  DataLoader* eval;  // null: no evaluation
  Checkpointer& checkpointer;
  const ParallelContext& context;
  LossScaler* loss_scaler = nullptr;  // of fp16
  std::vector<Callback*> callbacks;
  // Its schedule and chunks; the rest is the trainer's to fill in.
  Pipeline pipeline = {};
};

struct TrainResult {
  bool stopped_by_signal = false;  // the checkpoint is saved
  bool took_steps = false;         // false: the run was complete already
  nlohmann::json metrics;          // Hugging Face's keys of train_results.json, and ours
};

class Trainer {
 public:
  // A schedule that defers weight gradients has the stage's parameters give them to the trainer's
  // sink from now on.
  Trainer(const TrainingArguments& arguments, const TrainingPlan& plan, TrainerParts parts);

  // Trains to plan.max_steps, from the checkpoint `resume_from` if not empty.
  // Errors: what loading, saving or a callback says; Aborted after max_nonfinite_steps updates in a
  // row whose loss or gradient was not finite.
  absl::StatusOr<TrainResult> Train(const std::string& resume_from);

  // The metrics of one pass over the evaluation data: eval_loss (mean over samples), perplexity,
  // eval_runtime, eval_samples_per_second, eval_steps_per_second, epoch; logged and put into the
  // history. Needs parts.eval. Errors: Cancelled where a rank was asked to stop.
  absl::StatusOr<nlohmann::json> Evaluate();

  const TrainerState& state() const { return state_; }

 private:
  absl::Status Resume(const std::string& checkpoint);
  std::string CheckpointPath(int64_t step) const;
  absl::Status TrainEpoch(int64_t epoch, int64_t first_update);
  absl::Status EndEpoch();
  MicroBatch OnDevice(const MicroBatch& batch) const;
  // A pipeline's micro batches must be of one shape: fills shorter ones up with what does not
  // count.
  void FillUp(std::vector<MicroBatch>& batches) const;
  // One update's batches, and over all data-parallel ranks the weight of their losses and their
  // tokens.
  struct Window {
    std::vector<MicroBatch> batches;
    double weight = 0, tokens = 0;
  };
  Window NextWindow(int64_t num_batches);
  absl::Status Update(int64_t epoch, int64_t update_in_epoch);
  absl::Status AfterUpdate(double loss, double grad_norm, double learning_rate);
  absl::Status UpdateLossScale(bool overflow);
  absl::Status CountNonFinite(double loss, double grad_norm, bool skipped);
  // Saves, and says why the run cannot go on.
  absl::Status Abort(const absl::Status& why);
  absl::Status Act();
  absl::Status Log(nlohmann::json logs);
  absl::Status EvaluateAndJudge();
  absl::Status Save();
  // Waits for the save that is under way, if there is one, and says that it is done.
  absl::Status FinishSave();
  absl::Status Finish();
  nlohmann::json TrainMetrics() const;
  double TokensPerSecond() const;

  const TrainingArguments arguments_;
  const TrainingPlan plan_;
  TrainerParts parts_;
  std::unique_ptr<DeferringSink> deferred_;  // for a schedule that wants one
  TrainerState state_;
  LoopState loop_;
  TrainerControl control_;
  bool stop_signal_ = false;

  // Clocks, in seconds of a steady clock.
  double train_start_ = 0;
  double first_step_seconds_ = 0;  // process start to the end of this run's first step
  int64_t steps_this_run_ = 0;
  double tokens_after_first_step_ = 0, seconds_after_first_step_ = 0;
};

}  // namespace lathe

#endif  // LATHE_TRAINER_TRAINER_H_
