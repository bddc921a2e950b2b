#include "lathe/launchers/launch_plan.h"

#include <unistd.h>

#include <fstream>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/launchers/host_launcher.h"

namespace lathe {
namespace {

using Plan = absl::StatusOr<std::optional<LaunchPlan>>;

Plan Make(const ParallelArguments& arguments,
          const std::map<std::string, std::string>& environment = {}) {
  return PlanLaunch(arguments, [&](const char* name) -> const char* {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

void ExpectRefused(const ParallelArguments& arguments, std::string_view message,
                   const std::map<std::string, std::string>& environment = {}) {
  const Plan plan = Make(arguments, environment);
  EXPECT_TRUE(absl::StrContains(plan.status().message(), message)) << plan.status();
}

std::string Hostfile(std::string_view text) {
  const std::string path = absl::StrCat(testing::TempDir(), "/hostfile_", getpid());
  std::ofstream(path) << text;
  return path;
}

TEST(LaunchPlanTest, OneRankNeedsNoLauncher) {
  const Plan plan = Make({});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_FALSE(plan->has_value());
}

TEST(LaunchPlanTest, OneMachine) {
  ParallelArguments arguments;
  arguments.set_nproc_per_node(4);
  const Plan plan = Make(arguments);
  ASSERT_TRUE(plan.ok() && *plan) << plan.status();
  EXPECT_FALSE((*plan)->through_ssh);
  EXPECT_EQ(NodeText((*plan)->nodes[0]), "0 4 4 127.0.0.1 0 ");
  EXPECT_TRUE((*plan)->nodes[0].has_all_ranks());
}

TEST(LaunchPlanTest, ByHand) {
  ParallelArguments arguments;
  arguments.set_nnodes(3);
  ExpectRefused(arguments, "--node_rank is missing");
  arguments.set_node_rank(2);
  ExpectRefused(arguments, "--master_addr is missing");
  arguments.set_master_addr("node0");
  arguments.set_nproc_per_node(4);
  const Plan plan = Make(arguments);
  ASSERT_TRUE(plan.ok() && *plan) << plan.status();
  EXPECT_EQ(NodeText((*plan)->nodes[0]), "8 4 12 node0 29500 ");
  EXPECT_FALSE((*plan)->nodes[0].has_all_ranks());
  arguments.set_node_rank(3);
  ExpectRefused(arguments, "--node_rank 3: it must be below --nnodes, 3");
}

TEST(LaunchPlanTest, HostfileOfSeveralMachines) {
  ParallelArguments arguments;
  arguments.set_hostfile(Hostfile("a.invalid slots=4\nb.invalid slots=2\n"));
  arguments.set_exclude("a.invalid:1");
  arguments.set_master_port(1234);
  arguments.set_ssh_port(22022);
  const Plan plan = Make(arguments);
  ASSERT_TRUE(plan.ok() && *plan) << plan.status();
  EXPECT_TRUE((*plan)->through_ssh);
  EXPECT_EQ((*plan)->ssh_port, 22022);
  ASSERT_EQ((*plan)->nodes.size(), 2);
  EXPECT_EQ(NodeText((*plan)->nodes[0]), "0 3 5 a.invalid 1234 0,2,3");
  EXPECT_EQ(NodeText((*plan)->nodes[1]), "3 2 5 a.invalid 1234 0,1");
  // What a machine's launcher is told, it reads back.
  const Plan node = Make(arguments, {{kNodeVariable, NodeText((*plan)->nodes[1])}});
  ASSERT_TRUE(node.ok() && *node) << node.status();
  EXPECT_FALSE((*node)->through_ssh);
  EXPECT_TRUE((*node)->nodes[0].linked);
  EXPECT_EQ(NodeText((*node)->nodes[0]), NodeText((*plan)->nodes[1]));
}

TEST(LaunchPlanTest, HostfileOfThisMachineNeedsNoSsh) {
  ParallelArguments arguments;
  arguments.set_hostfile(Hostfile("localhost slots=2\nb.invalid slots=2\n"));
  ExpectRefused(arguments, "give the first one's address by --master_addr");
  arguments.set_include("localhost");
  const Plan plan = Make(arguments);
  ASSERT_TRUE(plan.ok() && *plan) << plan.status();
  EXPECT_FALSE((*plan)->through_ssh);
  EXPECT_EQ(NodeText((*plan)->nodes[0]), "0 2 2 127.0.0.1 0 0,1");
}

TEST(LaunchPlanTest, RefusesContradictions) {
  ParallelArguments hostfile;
  hostfile.set_hostfile(Hostfile("a.invalid slots=1"));
  hostfile.set_nproc_per_node(2);
  ExpectRefused(hostfile, "--hostfile and --nproc_per_node");
  hostfile.clear_nproc_per_node();
  hostfile.set_include("c");
  ExpectRefused(hostfile, "host 'c' is not in the hostfile");
  hostfile.set_include("a.invalid");
  hostfile.set_exclude("a.invalid");
  ExpectRefused(hostfile, "--include and --exclude");
  ParallelArguments alone;
  alone.set_exclude("a");
  ExpectRefused(alone, "--exclude needs --hostfile");
}

TEST(LaunchPlanTest, UnderAnotherLauncher) {
  const std::map<std::string, std::string> torchrun = {
      {"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}};
  ParallelArguments arguments;
  arguments.set_nproc_per_node(2);
  EXPECT_FALSE(Make(arguments, torchrun)->has_value());
  arguments.set_nnodes(2);
  ExpectRefused(arguments,
                "--nnodes is for Lathe's own launcher, but this process is already rank "
                "1 of 2, by the environment of torchrun",
                torchrun);
  std::map<std::string, std::string> own = torchrun;
  own["LATHE_LAUNCHER"] = "1";
  EXPECT_FALSE(Make(arguments, own)->has_value());
}

TEST(LaunchPlanTest, NodeTextOfNobodysIsRefused) {
  ExpectRefused({}, "LATHE_NODE is 'x'", {{kNodeVariable, "x"}});
}

TEST(SshCommandTest, QuotesEveryWord) {
  EXPECT_EQ(ShellWord("it's"), "'it'\\''s'");
  const LaunchNode node{.host = "b",
                        .first_rank = 1,
                        .world_size = 2,
                        .master_address = "a",
                        .master_port = 29500,
                        .visible_gpus = "0"};
  const std::vector<std::string> words =
      SshCommand(node, 22022, "/opt/pre train", "/data/a b", {"OMP_NUM_THREADS=1"}, {"--x", "$y"});
  EXPECT_EQ(words[0], "ssh");
  EXPECT_EQ(words.back(),
            "cd '/data/a b' && exec env 'OMP_NUM_THREADS=1' 'LATHE_NODE=1 1 2 a 29500 0' "
            "'/opt/pre train' '--x' '$y'");
  EXPECT_EQ(words[words.size() - 2], "b");
  EXPECT_EQ(words[words.size() - 3], "22022");
  EXPECT_EQ(words[words.size() - 4], "-p");
}

}  // namespace
}  // namespace lathe
