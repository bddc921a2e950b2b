// Checkpointer: what a training checkpoint holds and how it comes back. A checkpoint is a Hugging
// Face model folder with optimizer.safetensors, trainer_state.json and lathe_state.json beside; it
// is complete or not there (checkpoint/).
//
//   Checkpointer checkpointer("out", {{"config.json", text}}, at::kFloat, /*save_total_limit=*/2,
//                             optimizer, context);
//   checkpointer.Save(state, loop);                       // out/checkpoint-100
//   checkpointer.Load("out/checkpoint-100", &state, &loop);
//   checkpointer.SaveModel({{"train_results.json", text}});  // the final model, into out itself
//
// All functions are collective.
#ifndef LATHE_TRAINER_CHECKPOINTER_H_
#define LATHE_TRAINER_CHECKPOINTER_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "lathe/checkpoint/atomic_directory.h"
#include "lathe/checkpoint/checkpoint.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/trainer/loop_state.h"
#include "lathe/trainer/trainer_state.h"
#include "lathe/zero/zero_optimizer.h"

namespace lathe {

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
  absl::StatusOr<std::string> Save(const TrainerState& state, const LoopState& loop);

  // Brings weights, optimizer states and the loop's state back.
  // Errors (the same on all ranks): InvalidArgument naming what does not fit.
  absl::Status Load(const std::string& checkpoint, TrainerState* state, LoopState* loop);

  // Weights only, from a checkpoint (the best one). Errors: as Load.
  absl::Status LoadWeights(const std::string& checkpoint);

  // Deletes all checkpoints but `checkpoint` (a path in the output folder).
  absl::Status RemoveOthers(const std::string& checkpoint);

  // Writes the model and `extra_files` (name → bytes) into output_dir.
  absl::Status SaveModel(const std::map<std::string, std::string>& extra_files);

  const std::string& output_dir() const { return output_dir_; }

 private:
  absl::Status WriteModel(AtomicDirectory& directory) const;
  // What this rank reads. The options say which tensors other pipeline stages read.
  absl::Status LoadMine(const std::string& checkpoint, const LoadOptions& weights,
                        const LoadOptions& states, TrainerState* state, LoopState* loop);
  absl::Status LoadMyWeights(const std::string& checkpoint, const LoadOptions& options);
  LoadOptions OthersTensors(absl::Span<const NamedTensor> mine) const;

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
