// Builders of what a Trainer is given, from the run's configuration: loaders' order and callbacks.
// Any task that trains uses them.
#ifndef LATHE_LAUNCHERS_TRAINER_BUILDERS_H_
#define LATHE_LAUNCHERS_TRAINER_BUILDERS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/datasets/data_loader.h"
#include "lathe/launchers/run_config.pb.h"
#include "lathe/launchers/training_task.h"
#include "lathe/trainer/callback.h"

namespace lathe {

// The samples, and this rank's share of them as batches.
struct Loaders {
  TaskData data;
  std::unique_ptr<DataLoader> train;
  std::unique_ptr<DataLoader> eval;  // null: no evaluation
};
// Errors: an unknown --train_sampling_strategy.
absl::StatusOr<Loaders> BuildLoaders(const RunConfig& config, TaskData data,
                                     const ParallelContext& context);

// The callbacks of this rank, in order. `flags`: the configuration's text. `flops_per_token`: of
// forward and backward. `peak_flops`: per second, of all ranks together.
std::vector<std::unique_ptr<Callback>> BuildCallbacks(const RunConfig& config,
                                                      const std::string& flags,
                                                      const ParallelContext& context,
                                                      double flops_per_token, double peak_flops);

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_TRAINER_BUILDERS_H_
