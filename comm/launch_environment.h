// Which rank this process is, from the environment that a launcher sets: torchrun (and our own
// launcher), Slurm, Open MPI.
#ifndef LATHE_COMM_LAUNCH_ENVIRONMENT_H_
#define LATHE_COMM_LAUNCH_ENVIRONMENT_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"

namespace lathe {

struct LaunchEnvironment {
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;  // among the ranks of this machine
  int local_world_size = 1;
  std::string master_address = "127.0.0.1";
  int master_port = 29500;
  std::string launcher = "none";  // "torchrun", "slurm", "open_mpi" or "none", for messages
};

// `get` returns a variable's value or null: std::getenv in programs, a table in tests.
//   torchrun  RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE
//   Slurm     SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID, SLURM_NTASKS_PER_NODE or
//             SLURM_STEP_NUM_NODES
//   Open MPI  OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK, _LOCAL_SIZE
// MASTER_ADDR and MASTER_PORT count under each of them; with more than one node MASTER_ADDR is
// needed.
// Errors: InvalidArgument naming the variable that is missing or is no number, or a rank outside
// the world.
absl::StatusOr<LaunchEnvironment> ReadLaunchEnvironment(
    const std::function<const char*(const char*)>& get);

}  // namespace lathe

#endif  // LATHE_COMM_LAUNCH_ENVIRONMENT_H_
