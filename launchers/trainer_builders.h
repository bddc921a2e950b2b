// Builders of what a Trainer is given, from the run's configuration: loaders' order and callbacks.
// Any task that trains uses them.
#ifndef LATHE_LAUNCHERS_TRAINER_BUILDERS_H_
#define LATHE_LAUNCHERS_TRAINER_BUILDERS_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/datasets/data_loader.h"
#include "lathe/datasets/tokenizers/tokenizer.h"
#include "lathe/launchers/run_config.pb.h"
#include "lathe/launchers/task_builders.h"
#include "lathe/models/stage.h"
#include "lathe/trainer/callback.h"

namespace lathe {

// The texts as blocks, and this rank's share of them as batches.
struct Loaders {
  PretrainData data;
  std::unique_ptr<DataLoader> train;
  std::unique_ptr<DataLoader> eval;  // null: no evaluation
};
// Errors: BuildPretrainData's; an unknown --train_sampling_strategy.
absl::StatusOr<Loaders> BuildLoaders(const RunConfig& config, const Tokenizer& tokenizer,
                                     const ParallelContext& context);

// The callbacks of this rank, in order. `peak_flops`: of all ranks together.
std::vector<std::unique_ptr<Callback>> BuildCallbacks(const RunConfig& config,
                                                      const ParallelContext& context,
                                                      const Stage& stage, double peak_flops);

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_TRAINER_BUILDERS_H_
