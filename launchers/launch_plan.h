// What a program's launcher flags ask for: which processes, on which machines.
//
//   ABSL_ASSIGN_OR_RETURN(const std::optional<LaunchPlan> plan,
//                         PlanLaunch(config.parallel(), std::getenv));
//   if (plan) return plan->through_ssh ? LaunchHosts(argv, *plan) : LaunchLocalRanks(argv,
//   plan->nodes[0], ...);
//   ... this process is a rank
#ifndef LATHE_LAUNCHERS_LAUNCH_PLAN_H_
#define LATHE_LAUNCHERS_LAUNCH_PLAN_H_

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "lathe/comm/parallel_arguments.pb.h"

namespace lathe {

// The ranks of one machine.
struct LaunchNode {
  std::string host;  // "" for this machine, where there is no hostfile
  int first_rank = 0;
  int num_ranks = 1;
  int world_size = 1;
  std::string master_address = "127.0.0.1";
  int master_port = 0;       // 0: any that is free; only when all ranks are here
  std::string visible_gpus;  // "0,2"; "" for those that there are
  bool linked = false;       // standard input comes from the launcher that started this one

  bool has_all_ranks() const { return num_ranks == world_size; }
};

struct LaunchPlan {
  std::vector<LaunchNode> nodes;  // one, unless `through_ssh`
  bool through_ssh = false;
  int ssh_port = 0;  // 0: ssh's own choice

  int world_size() const { return nodes[0].world_size; }
};

// The environment variable in which LaunchHosts tells a machine's launcher its part.
inline constexpr char kNodeVariable[] = "LATHE_NODE";
std::string NodeText(const LaunchNode& node);

// Whether a hostfile's name is this machine's own: no ssh is needed.
bool IsThisMachine(std::string_view host);

// Nullopt when this process is a rank already, or the only one. `get` returns a variable's value or
// null: std::getenv in programs.
// Errors: what ReadHostfile and FilterHosts say; flags that contradict each other or an outer
// launcher, by name; --node_rank outside of --nnodes; --master_addr missing.
absl::StatusOr<std::optional<LaunchPlan>> PlanLaunch(
    const ParallelArguments& arguments, const std::function<const char*(const char*)>& get);

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_LAUNCH_PLAN_H_
