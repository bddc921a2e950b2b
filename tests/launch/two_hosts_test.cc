// Ranks on two machines, which are network namespaces: by hand and from a hostfile, through a
// program that stands in for ssh; the network cut in the middle of training.

#include "lathe/tests/launch/two_hosts.h"

#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/tests/process/program.h"
#include "lathe/tests/process/tiny_pretraining.h"
#include "lathe/tests/resume/run_outcome.h"

namespace lathe {
namespace {

constexpr char kNsenter[] = "/usr/bin/nsenter";

class TwoHostsTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    possible_ = EnterOwnNamespaces();
    if (possible_.ok()) hosts_ = std::make_unique<TwoHosts>();
  }
  static void TearDownTestSuite() { hosts_.reset(); }

  void SetUp() override {
    if (!possible_.ok()) GTEST_SKIP() << "no network namespaces here: " << possible_;
  }

  Program Start(int host, const std::vector<std::string>& flags, const std::string& out) {
    std::vector<std::string> command = {pretrain_};
    for (const std::string& flag : tiny_.Flags(out, flags)) command.push_back(flag);
    return Program::Start(kNsenter, {.arguments = hosts_->On(host, command)});
  }

  // By hand, one rank on each.
  Program StartNode(int host, const std::string& out, std::vector<std::string> flags) {
    flags.insert(flags.end(),
                 {"--nnodes", "2", "--node_rank", absl::StrCat(host), "--master_addr", "hosta"});
    return Start(host, flags, out);
  }

  ProgramOptions FromHostfile(const std::string& out, std::vector<std::string> flags) {
    WriteFile(folder_ + "/hostfile", "hosta slots=1\nhostb slots=2\n");
    flags.insert(flags.end(), {"--hostfile", folder_ + "/hostfile", "--exclude", "hostb:0"});
    return {.arguments = tiny_.Flags(out, flags),
            .environment = {{"PATH", absl::StrCat(hosts_->MakeSsh(), ":", std::getenv("PATH"))}}};
  }

  RunOutcome OneHost(const std::vector<std::string>& flags) {
    std::vector<std::string> words = flags;
    words.insert(words.end(), {"--nproc_per_node", "2"});
    const std::string out = folder_ + "/one_host";
    const ProgramEnd end = Start(0, words, out).Wait();
    EXPECT_EQ(end.exit_code, 0) << end.Text();
    return ReadRunOutcome(out);
  }

  static absl::Status possible_;
  static std::unique_ptr<TwoHosts> hosts_;
  const std::string pretrain_ = std::filesystem::absolute(kPretrain).string();
  const std::string folder_ = NewFolder(), out_ = folder_ + "/out";
  const TinyPretraining tiny_{folder_};
};

absl::Status TwoHostsTest::possible_;
std::unique_ptr<TwoHosts> TwoHostsTest::hosts_;

TEST_F(TwoHostsTest, ByHandAsOnOneHost) {
  Program second = StartNode(1, out_, {}), first = StartNode(0, out_, {});
  const ProgramEnd a = first.Wait(), b = second.Wait();
  EXPECT_EQ(a.exit_code, 0) << a.Text();
  EXPECT_EQ(b.exit_code, 0) << b.Text();
  // Not 127.0.1.1, which is what the name says there.
  EXPECT_TRUE(a.Says("Host hosta listens at 10.77.0.1 (veth0)")) << a.Text();
  EXPECT_TRUE(b.Says("Host hostb listens at 10.77.0.2 (veth0)")) << b.Text();
  ExpectSameOutcome(OneHost({}), ReadRunOutcome(out_));
}

TEST_F(TwoHostsTest, NetworkIsCutWhileTraining) {
  const std::vector<std::string> flags = {"--max_steps",        "400", "--save_steps",  "20",
                                          "--save_total_limit", "2",   "--ddp_timeout", "6"};
  {
    Program second = StartNode(1, out_, flags), first = StartNode(0, out_, flags);
    ASSERT_TRUE(first.WaitForOutput("checkpoint-40", 60)) << first.Wait(0).Text();
    hosts_->Cut();
    const double cut = first.Seconds();
    for (Program* program : {&first, &second}) {
      const ProgramEnd end = program->Wait(90);
      EXPECT_FALSE(end.timed_out);
      EXPECT_NE(end.exit_code, 0);
      EXPECT_NE(end.exit_code, 75);
      EXPECT_LT(end.seconds - cut, 40) << end.Text();
      ASSERT_EQ(end.ErrorLines().size(), 1) << end.Text();
      EXPECT_TRUE(absl::StrContains(end.ErrorLines()[0], " in group 'dp'")) << end.Text();
    }
  }
  EXPECT_TRUE(LiveDescendants(5).empty());
  ExpectWholeCheckpoints(out_);
  hosts_->Mend();
  Program second = StartNode(1, out_, flags), first = StartNode(0, out_, flags);
  const ProgramEnd a = first.Wait(), b = second.Wait();
  EXPECT_EQ(a.exit_code, 0) << a.Text();
  EXPECT_EQ(b.exit_code, 0) << b.Text();
  EXPECT_TRUE(a.Says("Checkpoint detected, resuming")) << a.Text();
  ExpectSameOutcome(OneHost(flags), ReadRunOutcome(out_));
}

TEST_F(TwoHostsTest, FolderThatIsNotShared) {
  std::filesystem::create_directories(out_);
  hosts_->Do(1, {"mount", "-t", "tmpfs", "none", out_});
  Program second = StartNode(1, out_, {}), first = StartNode(0, out_, {});
  for (Program* program : {&first, &second}) {
    const ProgramEnd end = program->Wait();
    EXPECT_NE(end.exit_code, 0);
    EXPECT_TRUE(end.Says("--output_dir must be on one file system that all ranks share"))
        << end.Text();
  }
}

TEST_F(TwoHostsTest, HostfileAsOnOneHost) {
  const ProgramEnd end = RunProgram(kPretrain, FromHostfile(out_, {}));
  EXPECT_EQ(end.exit_code, 0) << end.Text();
  EXPECT_TRUE(end.Says("Host hostb listens at 10.77.0.2")) << end.Text();
  ExpectSameOutcome(OneHost({}), ReadRunOutcome(out_));
  EXPECT_TRUE(LiveDescendants(5).empty());
}

TEST_F(TwoHostsTest, SignalReachesEachHostOnce) {
  const std::vector<std::string> endless = {"--max_steps", "1000000", "--save_steps", "1000000"};
  Program program = Program::Start(kPretrain, FromHostfile(out_, endless));
  ASSERT_TRUE(program.WaitForOutput("'loss'", 60)) << program.Wait(0).Text();
  program.Signal(SIGTERM);
  const ProgramEnd end = program.Wait(60);
  EXPECT_EQ(end.exit_code, 75) << end.Text();
  EXPECT_EQ(CheckpointsIn(out_).size(), 1);
  ExpectWholeCheckpoints(out_);
  EXPECT_TRUE(LiveDescendants(5).empty());
}

TEST_F(TwoHostsTest, RankOfAnotherHostDies) {
  Program program = Program::Start(kPretrain, FromHostfile(out_, {"--max_steps", "1000000"}));
  ASSERT_TRUE(program.WaitForOutput("'loss'", 60)) << program.Wait(0).Text();
  const pid_t victim = program.Rank(1);
  ASSERT_GT(victim, 0);
  kill(victim, SIGKILL);
  const ProgramEnd end = program.Wait(60);
  EXPECT_EQ(end.exit_code, 128 + SIGKILL) << end.Text();
  EXPECT_TRUE(end.Says("rank 1 was killed by signal 9 (Killed) on host hostb")) << end.Text();
  EXPECT_TRUE(LiveDescendants(5).empty());
}

TEST_F(TwoHostsTest, LauncherDies) {
  Program program = Program::Start(kPretrain, FromHostfile(out_, {"--max_steps", "1000000"}));
  ASSERT_TRUE(program.WaitForOutput("'loss'", 60)) << program.Wait(0).Text();
  program.Signal(SIGKILL);
  program.Wait();
  EXPECT_TRUE(LiveDescendants(10).empty());
}

TEST_F(TwoHostsTest, HostThatSshCannotReach) {
  ProgramOptions options = FromHostfile(out_, {});
  WriteFile(folder_ + "/hostfile", "hosta slots=1\nhostb slots=2\nhostc slots=1\n");
  const ProgramEnd end = RunProgram(kPretrain, options);
  EXPECT_EQ(end.exit_code, 255) << end.Text();
  EXPECT_TRUE(end.Says("host hostc cannot be reached through ssh")) << end.Text();
  EXPECT_TRUE(LiveDescendants(5).empty());
}

}  // namespace
}  // namespace lathe
