// TrainingTask: in what the tasks differ that train a language model: their flags, their data, and
// what of the model they change.
//
//   class Pretraining : public TrainingTask { ... };
//   return TaskMain(argc, argv, {.summary = "Pretrains ..."}, task);     // task_main.h
//
// Thread rule: one thread.
#ifndef LATHE_LAUNCHERS_TRAINING_TASK_H_
#define LATHE_LAUNCHERS_TRAINING_TASK_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "google/protobuf/message.h"
#include "lathe/datasets/dataset.h"
#include "lathe/datasets/tokenizers/tokenizer.h"
#include "lathe/launchers/run_config.pb.h"
#include "lathe/launchers/task_builders.h"

namespace lathe {

struct TaskData {
  std::shared_ptr<const Dataset> train;
  std::shared_ptr<const Dataset> eval;  // null: no evaluation
  // What fills up samples of different length in a batch; none: all are equally long.
  std::optional<int32_t> pad_id = std::nullopt;
};

class TrainingTask {
 public:
  virtual ~TrainingTask() = default;

  virtual google::protobuf::Message& mutable_flags() = 0;
  // Of the flags, what every task has.
  virtual RunConfig Run() const = 0;
  // The flags with `run` in place of Run().
  virtual std::unique_ptr<google::protobuf::Message> WithRun(const RunConfig& run) const = 0;

  // What the plan needs to know of the task. Errors: those of its flags.
  virtual absl::StatusOr<TaskShape> Shape() const = 0;

  // Training and evaluation samples. `shows_progress`: on the rank that a person watches. Errors:
  // those of the files and the flags.
  virtual absl::StatusOr<TaskData> BuildData(const RunConfig& run, const Tokenizer& tokenizer,
                                             bool shows_progress) const = 0;
};

// Run and WithRun of a task whose flags are a `Config`.
template <typename Config>
RunConfig RunOf(const Config& config) {
  RunConfig run;
  if (config.has_model()) *run.mutable_model() = config.model();
  if (config.has_training()) *run.mutable_training() = config.training();
  if (config.has_parallel()) *run.mutable_parallel() = config.parallel();
  return run;
}
template <typename Config>
std::unique_ptr<google::protobuf::Message> WithRunOf(const Config& config, const RunConfig& run) {
  auto copy = std::make_unique<Config>(config);
  *copy->mutable_model() = run.model();
  *copy->mutable_training() = run.training();
  *copy->mutable_parallel() = run.parallel();
  return copy;
}

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_TRAINING_TASK_H_
