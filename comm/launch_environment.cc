#include "lathe/comm/launch_environment.h"

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "lathe/comm/slurm_lists.h"

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

// Open MPI before Slurm: mpirun may run inside a Slurm job. torchrun before both: it may run inside
// either.
constexpr Names kLaunchers[] = {
    {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", ""},
    {"open_mpi", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE", ""},
    {"slurm", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE",
     "SLURM_STEP_NUM_NODES"},
};

constexpr int kMaxRanks = 1 << 20;

std::string_view Value(const Get& get, const char* name) {
  const char* text = get(name);
  return text == nullptr ? "" : text;
}

// How many ranks are on this rank's machine.
absl::StatusOr<int> LocalWorldSize(const Get& get, const Names& names, int world_size) {
  int count = world_size;
  const std::string_view by_node = Value(get, "SLURM_STEP_TASKS_PER_NODE");
  if (std::string_view(names.launcher) == "slurm" && !by_node.empty() &&
      get("SLURM_NODEID") != nullptr) {
    int node = 0;
    ABSL_RETURN_IF_ERROR(ReadInt(get, "SLURM_NODEID", 0, kMaxRanks, &node));
    const absl::StatusOr<int> of_node = SlurmCountOfNode(by_node, node);
    if (of_node.ok()) return *of_node;
    return absl::InvalidArgumentError(
        absl::StrCat("environment: SLURM_STEP_TASKS_PER_NODE: ", of_node.status().message()));
  }
  if (get(names.local_world_size) != nullptr) {
    ABSL_RETURN_IF_ERROR(ReadInt(get, names.local_world_size, 1, kMaxRanks, &count));
  } else if (get(names.num_nodes) != nullptr) {
    int nodes = 1;
    ABSL_RETURN_IF_ERROR(ReadInt(get, names.num_nodes, 1, kMaxRanks, &nodes));
    count = (world_size + nodes - 1) / nodes;
  }
  // A step of a job may have fewer tasks than the job asked for on each node.
  return std::min(count, world_size);
}

absl::Status FindMasterAddress(const Get& get, LaunchEnvironment* env) {
  if (get("MASTER_ADDR") != nullptr) {
    env->master_address = get("MASTER_ADDR");
    return absl::OkStatus();
  }
  if (!env->several_hosts()) return absl::OkStatus();
  if (env->launcher == "slurm") {
    for (const char* name : {"SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"}) {
      if (get(name) == nullptr) continue;
      const absl::StatusOr<std::string> node = FirstSlurmNode(get(name));
      if (!node.ok()) {
        return absl::InvalidArgumentError(
            absl::StrCat("environment: ", name, ": ", node.status().message()));
      }
      env->master_address = *node;
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "environment: MASTER_ADDR is missing; with ranks on several machines it names the one with "
      "rank 0",
      env->launcher == "open_mpi" ? ": mpirun -x MASTER_ADDR=HOST -x MASTER_PORT=29500 ..." : ""));
}

// Of the same job always the same. Below the ports that systems give to outgoing connections.
int PortOfJob(std::string_view id) {
  uint32_t hash = 2166136261u;  // FNV-1a
  for (const char c : id) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619u;
  return 20000 + static_cast<int>(hash % 10000);
}

absl::Status FindMasterPort(const Get& get, LaunchEnvironment* env) {
  if (env->world_size == 1) return absl::OkStatus();
  if (get("MASTER_PORT") != nullptr) {
    return ReadInt(get, "MASTER_PORT", 1, 65535, &env->master_port);
  }
  std::string job;
  if (env->launcher == "slurm" && get("SLURM_JOB_ID") != nullptr) {
    job = absl::StrCat(Value(get, "SLURM_JOB_ID"), ".", Value(get, "SLURM_STEP_ID"));
  } else if (env->launcher == "open_mpi") {
    job = Value(get, "PMIX_NAMESPACE");
  }
  if (!job.empty()) env->master_port = PortOfJob(job);
  return absl::OkStatus();
}

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
    ABSL_ASSIGN_OR_RETURN(env.local_world_size, LocalWorldSize(get, names, env.world_size));
    env.local_rank = env.rank % env.local_world_size;
    if (get(names.local_rank) != nullptr) {
      ABSL_RETURN_IF_ERROR(ReadInt(get, names.local_rank, 0, kMaxRanks, &env.local_rank));
    }
    break;
  }
  if (env.launcher == "torchrun") {
    if (get("LATHE_LAUNCHER") != nullptr) env.launcher = "lathe";
    env.agent_store = Value(get, "TORCHELASTIC_USE_AGENT_STORE") == "True";
    if (get("TORCHELASTIC_RESTART_COUNT") != nullptr) {
      ABSL_RETURN_IF_ERROR(ReadInt(get, "TORCHELASTIC_RESTART_COUNT", 0, kMaxRanks, &env.restart));
    }
  }
  ABSL_RETURN_IF_ERROR(FindMasterAddress(get, &env));
  ABSL_RETURN_IF_ERROR(FindMasterPort(get, &env));
  return env;
}

}  // namespace lathe
