// The local launcher: --nproc_per_node N starts this very program N times, one process per rank,
// and watches them.
//
//   if (arguments.nproc_per_node() > 1 && !IsRank()) {
//     return LaunchLocalRanks(argv, arguments.nproc_per_node(), /*hang_timeout_seconds=*/600);
//   }
//
// Call it before anything of LibTorch runs: threads do not survive a fork.
#ifndef LATHE_LAUNCHERS_LOCAL_LAUNCHER_H_
#define LATHE_LAUNCHERS_LOCAL_LAUNCHER_H_

#include "absl/status/statusor.h"

namespace lathe {

// Whether a launcher (this one, torchrun, Slurm, Open MPI) has already made this process one of
// several ranks.
bool IsRank();

// Starts the ranks with torchrun's environment (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE,
// MASTER_ADDR, MASTER_PORT), each with a beacon (lathe/base/beacon.h) and cores / N threads unless
// OMP_NUM_THREADS is set, passes SIGTERM and SIGINT on to them, and watches them as
// lathe/launchers/rank_watch.h says. If the launcher dies, so do they.
// Returns RankWatch::UntilTheEnd's exit code. Errors: too many ranks, or what the system says when
// one cannot be started.
absl::StatusOr<int> LaunchLocalRanks(char** argv, int num_ranks, int hang_timeout_seconds);

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_LOCAL_LAUNCHER_H_
