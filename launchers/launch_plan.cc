#include "lathe/launchers/launch_plan.h"

#include <unistd.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "lathe/comm/launch_environment.h"
#include "lathe/launchers/host_list.h"

namespace lathe {
namespace {

using Get = std::function<const char*(const char*)>;

constexpr int kDefaultPort = 29500;

absl::StatusOr<LaunchNode> ParseNode(std::string_view text) {
  const std::vector<std::string_view> words = absl::StrSplit(text, ' ');
  LaunchNode node;
  node.linked = true;
  if (words.size() != 6 || !absl::SimpleAtoi(words[0], &node.first_rank) ||
      !absl::SimpleAtoi(words[1], &node.num_ranks) ||
      !absl::SimpleAtoi(words[2], &node.world_size) ||
      !absl::SimpleAtoi(words[4], &node.master_port)) {
    return absl::InvalidArgumentError(
        absl::StrCat("environment: ", kNodeVariable, " is '", text, "', which no launcher writes"));
  }
  node.master_address = std::string(words[3]);
  node.visible_gpus = std::string(words[5]);
  return node;
}

// A launcher of many machines, or its flags, inside of another launcher's rank.
absl::Status CheckRankFlags(const ParallelArguments& arguments, const LaunchEnvironment& env) {
  const char* flag = !arguments.hostfile().empty() ? "--hostfile"
                     : arguments.nnodes() > 1      ? "--nnodes"
                     : arguments.has_node_rank()   ? "--node_rank"
                     : arguments.has_master_addr() ? "--master_addr"
                     : arguments.has_master_port() ? "--master_port"
                                                   : nullptr;
  if (flag == nullptr || env.launcher == "lathe") return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      flag, " is for Lathe's own launcher, but this process is already rank ", env.rank, " of ",
      env.world_size, ", by the environment of ", env.launcher, "; leave it out"));
}

absl::StatusOr<LaunchPlan> PlanHostfile(const ParallelArguments& arguments) {
  for (const auto& [given, flag] : {std::pair(arguments.has_nproc_per_node(), "--nproc_per_node"),
                                    std::pair(arguments.has_nnodes(), "--nnodes"),
                                    std::pair(arguments.has_node_rank(), "--node_rank")}) {
    if (!given) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "--hostfile and ", flag, ": the hostfile says which machines and how many ranks on each"));
  }
  ABSL_ASSIGN_OR_RETURN(const std::vector<HostSlots> all, ReadHostfile(arguments.hostfile()));
  ABSL_ASSIGN_OR_RETURN(const std::vector<HostSlots> hosts,
                        FilterHosts(all, arguments.include(), arguments.exclude()));
  LaunchPlan plan;
  plan.through_ssh = hosts.size() > 1 || !IsThisMachine(hosts[0].host);
  plan.ssh_port = arguments.ssh_port();
  int world_size = 0;
  for (const HostSlots& host : hosts) {
    plan.nodes.push_back({.host = host.host,
                          .first_rank = world_size,
                          .num_ranks = static_cast<int>(host.slots.size()),
                          .visible_gpus = absl::StrJoin(host.slots, ",")});
    world_size += static_cast<int>(host.slots.size());
  }
  std::string master = arguments.master_addr();
  if (master.empty()) master = plan.through_ssh ? hosts[0].host : "127.0.0.1";
  if (hosts.size() > 1 && (master == "localhost" || master == "127.0.0.1")) {
    return absl::InvalidArgumentError(
        absl::StrCat("--hostfile ", arguments.hostfile(), ": the other machines cannot reach '",
                     master, "'; give the first one's address by --master_addr"));
  }
  for (LaunchNode& node : plan.nodes) {
    node.world_size = world_size;
    node.master_address = master;
    node.master_port = arguments.has_master_port() ? arguments.master_port()
                       : plan.through_ssh          ? kDefaultPort
                                                   : 0;
  }
  return plan;
}

absl::StatusOr<LaunchPlan> PlanByHand(const ParallelArguments& arguments) {
  if (arguments.node_rank() >= arguments.nnodes()) {
    return absl::InvalidArgumentError(absl::StrCat("--node_rank ", arguments.node_rank(),
                                                   ": it must be below --nnodes, ",
                                                   arguments.nnodes()));
  }
  LaunchNode node{.first_rank = arguments.node_rank() * arguments.nproc_per_node(),
                  .num_ranks = arguments.nproc_per_node(),
                  .world_size = arguments.nnodes() * arguments.nproc_per_node()};
  if (arguments.nnodes() > 1) {
    if (!arguments.has_node_rank() || arguments.master_addr().empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--nnodes ", arguments.nnodes(), ": ",
          arguments.has_node_rank() ? "--master_addr is missing: the machine with --node_rank 0"
                                    : "--node_rank is missing: 0 on one machine, 1 on the next"));
    }
    node.master_port = kDefaultPort;
  }
  if (!arguments.master_addr().empty()) node.master_address = arguments.master_addr();
  if (arguments.has_master_port()) node.master_port = arguments.master_port();
  return LaunchPlan{.nodes = {std::move(node)}};
}

}  // namespace

bool IsThisMachine(std::string_view host) {
  char name[256] = {};
  if (gethostname(name, sizeof(name) - 1) != 0) name[0] = '\0';
  return host == "localhost" || host == "127.0.0.1" || host == name;
}

std::string NodeText(const LaunchNode& node) {
  return absl::StrCat(node.first_rank, " ", node.num_ranks, " ", node.world_size, " ",
                      node.master_address, " ", node.master_port, " ", node.visible_gpus);
}

absl::StatusOr<std::optional<LaunchPlan>> PlanLaunch(const ParallelArguments& arguments,
                                                     const Get& get) {
  const absl::StatusOr<LaunchEnvironment> env = ReadLaunchEnvironment(get);
  // A broken environment is reported by whoever reads it next. A job of one task may start ranks.
  if (!env.ok()) return std::nullopt;
  if (env->world_size > 1 || env->launcher == "lathe") {
    ABSL_RETURN_IF_ERROR(CheckRankFlags(arguments, *env));
    return std::nullopt;
  }
  if (const char* text = get(kNodeVariable)) {
    ABSL_ASSIGN_OR_RETURN(LaunchNode node, ParseNode(text));
    return LaunchPlan{.nodes = {std::move(node)}};
  }
  if (!arguments.hostfile().empty()) return PlanHostfile(arguments);
  for (const auto& [given, flag] : {std::pair(!arguments.include().empty(), "--include"),
                                    std::pair(!arguments.exclude().empty(), "--exclude"),
                                    std::pair(arguments.has_ssh_port(), "--ssh_port")}) {
    if (given) return absl::InvalidArgumentError(absl::StrCat(flag, " needs --hostfile"));
  }
  ABSL_ASSIGN_OR_RETURN(LaunchPlan plan, PlanByHand(arguments));
  if (plan.world_size() == 1) return std::nullopt;
  return plan;
}

}  // namespace lathe
