#include "lathe/comm/launch_environment.h"

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace lathe {
namespace {

using Get = std::function<const char*(const char*)>;

absl::Status ReadInt(const Get& get, const char* name, int min, int max, int* value) {
  const char* text = get(name);
  if (text == nullptr)
    return absl::InvalidArgumentError(absl::StrCat("environment: ", name, " is missing"));
  if (!absl::SimpleAtoi(text, value) || *value < min || *value > max) {
    return absl::InvalidArgumentError(absl::StrCat("environment: ", name, " is '", text,
                                                   "'; expected a number from ", min, " to ", max));
  }
  return absl::OkStatus();
}

struct Names {
  const char* launcher;
  const char* rank;
  const char* world_size;
  const char* local_rank;
  const char* local_world_size;
  const char* num_nodes;  // where the one before is not always set
};

// Slurm before Open MPI: srun may start an MPI program. torchrun before both: it may run inside
// their job.
constexpr Names kLaunchers[] = {
    {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", ""},
    {"open_mpi", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE", ""},
    {"slurm", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE",
     "SLURM_STEP_NUM_NODES"},
};

constexpr int kMaxRanks = 1 << 20;

}  // namespace

absl::StatusOr<LaunchEnvironment> ReadLaunchEnvironment(const Get& get) {
  LaunchEnvironment env;
  for (const Names& names : kLaunchers) {
    if (get(names.rank) == nullptr || get(names.world_size) == nullptr) continue;
    env.launcher = names.launcher;
    ABSL_RETURN_IF_ERROR(ReadInt(get, names.world_size, 1, kMaxRanks, &env.world_size));
    ABSL_RETURN_IF_ERROR(ReadInt(get, names.rank, 0, kMaxRanks, &env.rank));
    if (env.rank >= env.world_size) {
      return absl::InvalidArgumentError(absl::StrCat("environment: ", names.rank, " is ", env.rank,
                                                     "; it must be below ", names.world_size, ", ",
                                                     env.world_size));
    }
    env.local_world_size = env.world_size;
    if (get(names.local_world_size) != nullptr) {
      ABSL_RETURN_IF_ERROR(
          ReadInt(get, names.local_world_size, 1, kMaxRanks, &env.local_world_size));
    } else if (get(names.num_nodes) != nullptr) {
      int nodes = 1;
      ABSL_RETURN_IF_ERROR(ReadInt(get, names.num_nodes, 1, kMaxRanks, &nodes));
      env.local_world_size = (env.world_size + nodes - 1) / nodes;
    }
    env.local_rank = env.rank % env.local_world_size;
    if (get(names.local_rank) != nullptr) {
      ABSL_RETURN_IF_ERROR(ReadInt(get, names.local_rank, 0, kMaxRanks, &env.local_rank));
    }
    break;
  }
  if (get("MASTER_PORT") != nullptr && env.world_size > 1) {
    ABSL_RETURN_IF_ERROR(ReadInt(get, "MASTER_PORT", 1, 65535, &env.master_port));
  }
  if (get("MASTER_ADDR") != nullptr) {
    env.master_address = get("MASTER_ADDR");
  } else if (env.local_world_size < env.world_size) {
    return absl::InvalidArgumentError(
        "environment: MASTER_ADDR is missing; with ranks on several machines it names the one with "
        "rank 0");
  }
  return env;
}

}  // namespace lathe
