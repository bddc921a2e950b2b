// What a person sees of a run: the console and TensorBoard's files. Rank 0 only.
#ifndef LATHE_TRAINER_REPORT_CALLBACKS_H_
#define LATHE_TRAINER_REPORT_CALLBACKS_H_

#include <memory>
#include <string>

#include "lathe/comm/parallel_context.h"
#include "lathe/trainer/callback.h"
#include "lathe/trainer/progress_bar.h"
#include "lathe/trainer/tensorboard_writer.h"

namespace lathe {

// The progress bar, and each log as one line on standard output, as Hugging Face prints it.
class ConsoleCallback : public Callback {
 public:
  // `flops_per_token` over `peak_flops` (of all ranks, measured) is the utilisation shown.
  ConsoleCallback(bool show_bar, double flops_per_token, double peak_flops)
      : show_bar_(show_bar), flops_per_token_(flops_per_token), peak_flops_(peak_flops) {}
  ~ConsoleCallback() override;

  absl::Status OnTrainBegin(const TrainerState& state, TrainerControl& control) override;
  absl::Status OnStepEnd(const TrainerState& state, const StepInfo& info,
                         TrainerControl& control) override;
  absl::Status OnLog(const TrainerState& state, const nlohmann::json& logs) override;
  absl::Status OnTrainEnd(const TrainerState& state) override;

 private:
  const bool show_bar_;
  const double flops_per_token_, peak_flops_;
  std::unique_ptr<ProgressBar> bar_;
};

// Every log is on the disk when OnLog returns; the file stays open until the callback goes, since
// an evaluation may follow training. Scalars under Hugging Face's tags (train/loss, eval/loss …)
// and the configuration as text.
class TensorBoardCallback : public Callback {
 public:
  TensorBoardCallback(std::string directory, std::string configuration)
      : directory_(std::move(directory)), configuration_(std::move(configuration)) {}

  absl::Status OnTrainBegin(const TrainerState& state, TrainerControl& control) override;
  absl::Status OnLog(const TrainerState& state, const nlohmann::json& logs) override;

 private:
  absl::Status Open(const TrainerState& state);

  const std::string directory_, configuration_;
  std::unique_ptr<TensorBoardWriter> writer_;
};

// What this rank has sent to others, and its time in communication, since it started: a line at
// each log.
class CommunicationCallback : public Callback {
 public:
  // `context` must outlive the callback.
  explicit CommunicationCallback(const ParallelContext& context) : context_(context) {}

  absl::Status OnLog(const TrainerState& state, const nlohmann::json& logs) override;

 private:
  const ParallelContext& context_;
};

}  // namespace lathe

#endif  // LATHE_TRAINER_REPORT_CALLBACKS_H_
