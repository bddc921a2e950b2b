#include "lathe/comm/launch_environment.h"

#include <map>

#include "gtest/gtest.h"

namespace lathe {
namespace {

absl::StatusOr<LaunchEnvironment> Read(const std::map<std::string, std::string>& variables) {
  return ReadLaunchEnvironment([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

TEST(LaunchEnvironmentTest, NoLauncherIsOneRank) {
  const auto env = Read({});
  ASSERT_TRUE(env.ok());
  EXPECT_EQ(env->world_size, 1);
  EXPECT_EQ(env->launcher, "none");
}

TEST(LaunchEnvironmentTest, UnderstandsEachLauncher) {
  const auto torchrun = Read({{"RANK", "5"},
                              {"WORLD_SIZE", "8"},
                              {"LOCAL_RANK", "1"},
                              {"LOCAL_WORLD_SIZE", "4"},
                              {"MASTER_ADDR", "node0"},
                              {"MASTER_PORT", "1234"},
                              {"SLURM_PROCID", "0"},
                              {"SLURM_NTASKS", "1"}});
  ASSERT_TRUE(torchrun.ok()) << torchrun.status();
  EXPECT_EQ(torchrun->launcher, "torchrun");
  EXPECT_EQ(torchrun->rank, 5);
  EXPECT_EQ(torchrun->local_rank, 1);
  EXPECT_EQ(torchrun->master_address, "node0");
  EXPECT_EQ(torchrun->master_port, 1234);

  const auto slurm = Read({{"SLURM_PROCID", "1"}, {"SLURM_NTASKS", "2"}, {"SLURM_LOCALID", "1"}});
  ASSERT_TRUE(slurm.ok()) << slurm.status();
  EXPECT_EQ(slurm->launcher, "slurm");
  EXPECT_EQ(slurm->world_size, 2);
  EXPECT_EQ(slurm->local_rank, 1);

  // Two nodes, without --ntasks-per-node.
  const std::map<std::string, std::string> two_nodes = {{"SLURM_PROCID", "3"},
                                                        {"SLURM_NTASKS", "4"},
                                                        {"SLURM_LOCALID", "1"},
                                                        {"SLURM_STEP_NUM_NODES", "2"}};
  EXPECT_NE(Read(two_nodes).status().message().find("MASTER_ADDR"), std::string::npos);
  std::map<std::string, std::string> with_address = two_nodes;
  with_address["MASTER_ADDR"] = "node0";
  const auto nodes = Read(with_address);
  ASSERT_TRUE(nodes.ok()) << nodes.status();
  EXPECT_EQ(nodes->local_world_size, 2);
  EXPECT_TRUE(nodes->several_hosts());

  const auto mpi = Read({{"OMPI_COMM_WORLD_RANK", "2"},
                         {"OMPI_COMM_WORLD_SIZE", "4"},
                         {"OMPI_COMM_WORLD_LOCAL_RANK", "2"},
                         {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}});
  ASSERT_TRUE(mpi.ok()) << mpi.status();
  EXPECT_EQ(mpi->launcher, "open_mpi");
  EXPECT_EQ(mpi->rank, 2);
}

// As srun sets them on the second of two nodes.
TEST(LaunchEnvironmentTest, SlurmNamesTheFirstNodeAndAPortOfItsOwn) {
  std::map<std::string, std::string> variables = {{"SLURM_PROCID", "5"},
                                                  {"SLURM_NTASKS", "6"},
                                                  {"SLURM_LOCALID", "1"},
                                                  {"SLURM_NODEID", "1"},
                                                  {"SLURM_STEP_TASKS_PER_NODE", "4,2"},
                                                  {"SLURM_NTASKS_PER_NODE", "8"},
                                                  {"SLURM_JOB_ID", "4711"},
                                                  {"SLURM_STEP_ID", "0"},
                                                  {"SLURM_JOB_NODELIST", "node[01-08]"},
                                                  {"SLURM_STEP_NODELIST", "node[03-04]"}};
  const auto env = Read(variables);
  ASSERT_TRUE(env.ok()) << env.status();
  EXPECT_EQ(env->master_address, "node03");
  EXPECT_EQ(env->local_world_size, 2);
  EXPECT_EQ(env->local_rank, 1);
  EXPECT_GE(env->master_port, 20000);
  EXPECT_LT(env->master_port, 30000);
  variables["SLURM_JOB_ID"] = "4712";
  EXPECT_NE(Read(variables)->master_port, env->master_port);
  variables["MASTER_PORT"] = "1234";
  variables["MASTER_ADDR"] = "10.0.0.1";
  EXPECT_EQ(Read(variables)->master_port, 1234);
  EXPECT_EQ(Read(variables)->master_address, "10.0.0.1");

  variables.erase("MASTER_ADDR");
  variables["SLURM_STEP_NODELIST"] = "node[03";
  EXPECT_NE(Read(variables).status().message().find("SLURM_STEP_NODELIST"), std::string::npos);
  variables["SLURM_STEP_TASKS_PER_NODE"] = "x";
  EXPECT_NE(Read(variables).status().message().find("SLURM_STEP_TASKS_PER_NODE"),
            std::string::npos);
}

TEST(LaunchEnvironmentTest, SlurmStepSmallerThanItsJobsNodes) {
  const auto env = Read({{"SLURM_PROCID", "1"},
                         {"SLURM_NTASKS", "2"},
                         {"SLURM_LOCALID", "1"},
                         {"SLURM_NTASKS_PER_NODE", "8"}});
  ASSERT_TRUE(env.ok()) << env.status();
  EXPECT_FALSE(env->several_hosts());
}

TEST(LaunchEnvironmentTest, OpenMpiOverMachinesSaysWhatToPass) {
  std::map<std::string, std::string> variables = {{"OMPI_COMM_WORLD_RANK", "2"},
                                                  {"OMPI_COMM_WORLD_SIZE", "4"},
                                                  {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                                                  {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                                                  {"PMIX_NAMESPACE", "prterun-a-17@1"}};
  EXPECT_NE(Read(variables).status().message().find("mpirun -x MASTER_ADDR=HOST"),
            std::string::npos);
  variables["MASTER_ADDR"] = "a";
  const int port = Read(variables)->master_port;
  variables["PMIX_NAMESPACE"] = "prterun-a-18@1";
  EXPECT_NE(Read(variables)->master_port, port);
}

TEST(LaunchEnvironmentTest, TorchrunsAgentServesTheStore) {
  std::map<std::string, std::string> variables = {{"RANK", "0"},
                                                  {"WORLD_SIZE", "2"},
                                                  {"MASTER_ADDR", "a"},
                                                  {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                                                  {"TORCHELASTIC_RESTART_COUNT", "3"}};
  EXPECT_TRUE(Read(variables)->agent_store);
  EXPECT_EQ(Read(variables)->restart, 3);
  EXPECT_EQ(Read(variables)->launcher, "torchrun");
  variables["TORCHELASTIC_USE_AGENT_STORE"] = "False";
  EXPECT_FALSE(Read(variables)->agent_store);
  variables["LATHE_LAUNCHER"] = "1";
  EXPECT_EQ(Read(variables)->launcher, "lathe");
  variables["TORCHELASTIC_RESTART_COUNT"] = "x";
  EXPECT_FALSE(Read(variables).ok());
}

TEST(LaunchEnvironmentTest, NamesWhatIsWrong) {
  EXPECT_EQ(Read({{"RANK", "x"}, {"WORLD_SIZE", "2"}}).status().message(),
            "environment: RANK is 'x'; expected a number from 0 to 1048576");
  EXPECT_EQ(Read({{"RANK", "2"}, {"WORLD_SIZE", "2"}}).status().message(),
            "environment: RANK is 2; it must be below WORLD_SIZE, 2");
  EXPECT_NE(Read({{"RANK", "2"}, {"WORLD_SIZE", "4"}, {"LOCAL_WORLD_SIZE", "2"}})
                .status()
                .message()
                .find("MASTER_ADDR"),
            std::string::npos);
  EXPECT_FALSE(Read({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "99999"}}).ok());
}

}  // namespace
}  // namespace lathe
