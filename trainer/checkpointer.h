// Checkpointer: what a training checkpoint holds and how it comes back. A checkpoint is a Hugging
// Face model folder with optimizer.safetensors, trainer_state.json and lathe_state.json beside; it
// is complete or not there (checkpoint/).
//
//   ABSL_ASSIGN_OR_RETURN(auto checkpointer, Checkpointer::Create(
//       {.output_dir = "out", .model_files = {{"config.json", text}}, .save_total_limit = 2},
//       optimizer, context));
//   checkpointer->BeginSave(state, loop);
//   checkpointer->FinishSave();                               // out/checkpoint-100 is there
//   checkpointer->Load("out/checkpoint-100", &state, &loop);
//   checkpointer->SaveModel({{"train_results.json", text}});  // the final model, into out itself
//
// An asynchronous save runs in a thread of its own while training goes on: it copies everything
// during the next forward and backward, then writes the copy. Its ranks talk through a group of
// their own. At most one is under way.
//
// All functions are collective, but for WaitForCopy, saving and save_is_over.
#ifndef LATHE_TRAINER_CHECKPOINTER_H_
#define LATHE_TRAINER_CHECKPOINTER_H_

#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "lathe/checkpoint/atomic_directory.h"
#include "lathe/checkpoint/checkpoint.h"
#include "lathe/checkpoint/staged_copy.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/trainer/loop_state.h"
#include "lathe/trainer/trainer_state.h"
#include "lathe/zero/zero_optimizer.h"

namespace lathe {

// Which weights a checkpoint holds, and how.
struct WeightsFile {
  std::string stem = "model";  // of the files' name
  at::ScalarType dtype = at::kFloat;
  // What a parameter is called in the file, "" if it is not in there (an adapter's base). Null: all
  // are, by their names.
  std::function<std::string(const std::string& parameter)> name_in_file = nullptr;
};

// The optimizer's weights that the file holds, by their names in it.
std::vector<NamedTensor> WeightsInFile(const WeightsFile& file, const ZeroOptimizer& optimizer);

struct CheckpointerOptions {
  std::string output_dir;
  // Name → bytes of what makes a model folder beside its weights (config.json, the tokenizer).
  std::map<std::string, std::string> model_files = {};
  WeightsFile weights = {};
  int64_t save_total_limit = 0;  // ≤ 0 keeps all
  bool async_save = false;
};

class Checkpointer {
 public:
  // References must outlive the object. Errors: Unavailable if the ranks cannot be connected for
  // asynchronous saves.
  static absl::StatusOr<std::unique_ptr<Checkpointer>> Create(CheckpointerOptions options,
                                                              ZeroOptimizer& optimizer,
                                                              const ParallelContext& context);

  Checkpointer(const Checkpointer&) = delete;
  Checkpointer& operator=(const Checkpointer&) = delete;
  // Waits for the save that is under way.
  ~Checkpointer();

  // Starts to write output_dir/checkpoint-N, N = state.global_step, and to remove old ones. None
  // may be under way. Weights and optimizer states stay as they are until WaitForCopy returns.
  void BeginSave(const TrainerState& state, const LoopState& loop);
  void WaitForCopy() const;

  // Whether BeginSave was called and FinishSave was not.
  bool saving() const { return save_.valid(); }
  // Whether this rank need not wait in FinishSave; false when none is under way.
  bool save_is_over() const;

  // Waits for the save. Returns the checkpoint's path. Errors (the same on all ranks): what
  // checkpoint/ says (a full disk …); nothing that was there before is touched then.
  absl::StatusOr<std::string> FinishSave();

  // Brings weights, optimizer states and the loop's state back.
  // Errors (the same on all ranks): InvalidArgument naming what does not fit.
  absl::Status Load(const std::string& checkpoint, TrainerState* state, LoopState* loop);

  // Weights only, from a checkpoint (the best one). Errors: as Load.
  absl::Status LoadWeights(const std::string& checkpoint);

  // Deletes all checkpoints but `checkpoint` (a path in the output folder).
  absl::Status RemoveOthers(const std::string& checkpoint);

  // Writes the model and `extra_files` (name → bytes) into output_dir.
  absl::Status SaveModel(const std::map<std::string, std::string>& extra_files);

  const std::string& output_dir() const { return options_.output_dir; }

 private:
  // What is written, and for whom.
  struct Snapshot {
    int64_t step = 0;
    std::vector<NamedTensor> weights, states;
    std::string trainer_state, loop_state;  // the files' bytes
    std::vector<std::string> protect;       // checkpoints that are not removed
  };

  Checkpointer(CheckpointerOptions options, ZeroOptimizer& optimizer,
               const ParallelContext& context, std::unique_ptr<Communicator> save_group);
  // Puts copies into the place of the snapshot's tensors. Errors: ResourceExhausted.
  absl::Status Copy(Snapshot& snapshot);
  absl::StatusOr<std::string> Write(const Snapshot& snapshot, const RankGroup& ranks) const;
  std::vector<NamedTensor> Weights() const { return WeightsInFile(options_.weights, optimizer_); }
  absl::Status WriteModel(AtomicDirectory& directory, absl::Span<const NamedTensor> weights) const;
  // What this rank reads. The options say which tensors other pipeline stages read.
  absl::Status LoadMine(const std::string& checkpoint, const LoadOptions& weights,
                        const LoadOptions& states, TrainerState* state, LoopState* loop);
  absl::Status LoadMyWeights(const std::string& checkpoint, const LoadOptions& options);
  LoadOptions OthersTensors(absl::Span<const NamedTensor> mine) const;

  const CheckpointerOptions options_;
  ZeroOptimizer& optimizer_;
  const ParallelContext& context_;
  const std::unique_ptr<Communicator> save_group_;  // of asynchronous saves; null without
  StagedCopy staged_weights_, staged_states_;
  std::future<void> copy_;
  std::future<absl::StatusOr<std::string>> save_;
};

// The ranks of `group` as checkpoint/ wants to see them.
RankGroup MakeRankGroup(const Communicator& group);

}  // namespace lathe

#endif  // LATHE_TRAINER_CHECKPOINTER_H_
