// Checkpointer: what a training checkpoint holds and how it comes back. A checkpoint is a Hugging
// Face model folder with optimizer.safetensors, trainer_state.json and lathe_state.json beside; it
// is complete or not there (checkpoint/).
//
//   Checkpointer checkpointer("out", {{"config.json", text}}, at::kFloat, optimizer, context);
//   checkpointer.Save(state, totals);                     // out/checkpoint-100
//   checkpointer.Load("out/checkpoint-100", &state, &totals);
//   checkpointer.SaveModel();                             // the final model, into out itself
//
// All functions are collective.
#ifndef LATHE_TRAINER_CHECKPOINTER_H_
#define LATHE_TRAINER_CHECKPOINTER_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lathe/checkpoint/atomic_directory.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/trainer/trainer_state.h"
#include "lathe/zero/zero_optimizer.h"

namespace lathe {

// Sums that a resumed run must go on from to log what the uninterrupted one would. Hugging Face's
// state has no place for them, so they are in lathe_state.json.
struct RunningTotals {
  double total_loss = 0;  // over all logged updates
  double loss_since_log = 0;
  int64_t steps_since_log = 0;  // updates whose loss is in it
  int64_t last_logged_step = 0;
  int64_t nonfinite_steps = 0;  // updates skipped because loss or gradient was not finite
};

class Checkpointer {
 public:
  // `model_files`: name → bytes of what makes a model folder beside its weights (config.json, the
  // tokenizer). `weights_dtype`: what weights are saved as. `save_total_limit` ≤ 0 keeps all.
  // References must outlive the object.
  Checkpointer(std::string output_dir, std::map<std::string, std::string> model_files,
               at::ScalarType weights_dtype, int64_t save_total_limit, ZeroOptimizer& optimizer,
               const ParallelContext& context);

  // Writes output_dir/checkpoint-N, N = state.global_step, then removes old ones. Returns its path.
  // Errors: what checkpoint/ says (a full disk …); nothing that was there before is touched then.
  absl::StatusOr<std::string> Save(const TrainerState& state, const RunningTotals& totals);

  // Brings weights, optimizer states and sums back.
  // Errors: InvalidArgument naming what does not fit.
  absl::Status Load(const std::string& checkpoint, TrainerState* state, RunningTotals* totals);

  // Weights only, from a checkpoint (the best one).
  absl::Status LoadWeights(const std::string& checkpoint);

  // Writes the model and `extra_files` (name → bytes) into output_dir.
  absl::Status SaveModel(const std::map<std::string, std::string>& extra_files);

  const std::string& output_dir() const { return output_dir_; }

 private:
  absl::Status WriteModel(AtomicDirectory& directory) const;

  const std::string output_dir_;
  const std::map<std::string, std::string> model_files_;
  const at::ScalarType weights_dtype_;
  const int64_t save_total_limit_;
  ZeroOptimizer& optimizer_;
  const ParallelContext& context_;
};

// The ranks of `group` as checkpoint/ wants to see them.
RankGroup MakeRankGroup(const Communicator& group);

}  // namespace lathe

#endif  // LATHE_TRAINER_CHECKPOINTER_H_
