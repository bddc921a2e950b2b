// A training task: configuration in, trained model out. Reads like the data's way through the
// libraries.
#ifndef LATHE_LAUNCHERS_RUN_TRAINING_H_
#define LATHE_LAUNCHERS_RUN_TRAINING_H_

#include "absl/status/statusor.h"
#include "lathe/comm/launch_environment.h"
#include "lathe/launchers/training_task.h"

namespace lathe {

// Runs this rank's part. Returns the process's exit code: 0, or kStoppedExitCode after a signal.
// Errors: one line for the user. Throws CollectiveError when a peer is gone.
absl::StatusOr<int> RunTraining(const TrainingTask& task, const LaunchEnvironment& environment);

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_RUN_TRAINING_H_
