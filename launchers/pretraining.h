// Pretraining: documents, joined and cut into blocks, of which every token is learnt.
#ifndef LATHE_LAUNCHERS_PRETRAINING_H_
#define LATHE_LAUNCHERS_PRETRAINING_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "google/protobuf/message.h"
#include "lathe/datasets/tokenizers/tokenizer.h"
#include "lathe/launchers/run_config.pb.h"
#include "lathe/launchers/training_task.h"

namespace lathe {

class Pretraining : public TrainingTask {
 public:
  // `defaults`: values of flags that are not given.
  explicit Pretraining(PretrainConfig defaults) : config_(std::move(defaults)) {}

  PretrainConfig& mutable_flags() override { return config_; }
  RunConfig Run() const override { return RunOf(config_); }
  std::unique_ptr<google::protobuf::Message> WithRun(const RunConfig& run) const override {
    return WithRunOf(config_, run);
  }
  absl::StatusOr<TaskShape> Shape() const override {
    return TaskShape{.seq_len = config_.data().block_size()};
  }
  absl::StatusOr<TaskData> BuildData(const RunConfig& run, const Tokenizer& tokenizer,
                                     bool shows_progress) const override;

 private:
  PretrainConfig config_;
};

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_PRETRAINING_H_
