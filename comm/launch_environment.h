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
  std::string launcher = "none";  // "lathe" (our own), "torchrun", "slurm", "open_mpi" or "none"
  // torchrun's agent serves the store at the master's port; else rank 0 does.
  bool agent_store = false;
  // How often torchrun has restarted the ranks: each time they meet anew.
  int restart = 0;

  bool several_hosts() const { return local_world_size < world_size; }
};

// `get` returns a variable's value or null: std::getenv in programs, a table in tests.
//   torchrun  RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, TORCHELASTIC_USE_AGENT_STORE,
//             TORCHELASTIC_RESTART_COUNT
//   Slurm     SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID; SLURM_NTASKS_PER_NODE or
//             SLURM_STEP_TASKS_PER_NODE with SLURM_NODEID or SLURM_STEP_NUM_NODES
//   Open MPI  OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK, _LOCAL_SIZE
// MASTER_ADDR and MASTER_PORT count under each of them. Without MASTER_ADDR ranks on one machine
// meet on loopback, and Slurm's on the first node of SLURM_STEP_NODELIST or SLURM_JOB_NODELIST;
// without MASTER_PORT the port is 29500 or, so that jobs on one machine do not meet, one from 20000
// on that follows from the job's id (SLURM_JOB_ID and SLURM_STEP_ID, PMIX_NAMESPACE).
// Errors: InvalidArgument naming the variable that is missing, and what to give for it, or that is
// no number; a rank outside the world.
absl::StatusOr<LaunchEnvironment> ReadLaunchEnvironment(
    const std::function<const char*(const char*)>& get);

}  // namespace lathe

#endif  // LATHE_COMM_LAUNCH_ENVIRONMENT_H_
