// The local launcher: --nproc_per_node N starts this very program N times, one process per rank,
// and watches them.
//
//   if (arguments.nproc_per_node() > 1 && !IsRank()) return LaunchLocalRanks(argc, argv,
//   arguments.nproc_per_node());
//
// Call it before anything of LibTorch runs: threads do not survive a fork.
#ifndef LATHE_LAUNCHERS_LOCAL_LAUNCHER_H_
#define LATHE_LAUNCHERS_LOCAL_LAUNCHER_H_

namespace lathe {

// Whether a launcher (this one, torchrun, Slurm, Open MPI) has already made this process one of
// several ranks.
bool IsRank();

// Starts the ranks with torchrun's environment (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE,
// MASTER_ADDR, MASTER_PORT), cores / N threads each unless OMP_NUM_THREADS is set, and passes
// SIGTERM and SIGINT on to them. When a rank fails, the others get 5 seconds to report and are then
// killed (60 when one ends well); if the launcher dies, so do they. Returns the exit code of the
// rank that failed first, 128 + signal if it was killed; else 75 if they were stopped
// (lathe/trainer/stop_request.h), 0 if not.
int LaunchLocalRanks(int argc, char** argv, int num_ranks);

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_LOCAL_LAUNCHER_H_
