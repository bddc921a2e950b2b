// The local launcher: starts this very program as often as this machine has ranks, one process per
// rank, and watches them.
//
//   return LaunchLocalRanks(argv, plan.nodes[0], /*hang_timeout_seconds=*/600);
//
// Call it before anything of LibTorch runs: threads do not survive a fork.
#ifndef LATHE_LAUNCHERS_LOCAL_LAUNCHER_H_
#define LATHE_LAUNCHERS_LOCAL_LAUNCHER_H_

#include "absl/status/statusor.h"
#include "lathe/launchers/launch_plan.h"

namespace lathe {

// Starts the ranks with torchrun's environment (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE,
// MASTER_ADDR, MASTER_PORT), each with a beacon (lathe/base/beacon.h) and cores / N threads unless
// OMP_NUM_THREADS is set, passes SIGTERM and SIGINT on to them, and watches them as
// lathe/launchers/rank_watch.h says. If the launcher dies, so do they.
// Returns RankWatch::UntilTheEnd's exit code. Errors: too many ranks, or what the system says when
// one cannot be started.
absl::StatusOr<int> LaunchLocalRanks(char** argv, const LaunchNode& node, int hang_timeout_seconds);

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_LOCAL_LAUNCHER_H_
