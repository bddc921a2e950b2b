// Odd but legal surroundings, in which a run must do its work; and ranks that die at odd moments.

#include <sys/types.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/tests/process/program.h"
#include "lathe/tests/process/tiny_pretraining.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

class OddSurroundingsTest : public testing::Test {
 protected:
  const std::string folder_ = NewFolder();
  const TinyPretraining tiny_{folder_};
  const std::string out_ = folder_ + "/out";
};

TEST_F(OddSurroundingsTest, Paths) {
  for (const char* name :
       {"with space", "na\xC3\xAFve", "latin1-\xe9", "quote'\"", "-dash", "new\nline"}) {
    SCOPED_TRACE(name);
    const std::string out = absl::StrCat(folder_, "/", name);
    for (const char* steps : {"2", "4"}) {
      const ProgramEnd end = RunProgram(
          kPretrain, {.arguments = tiny_.Flags(out, {"--max_steps", steps, "--save_total_limit",
                                                     "1", "--report_to", "tensorboard"})});
      EXPECT_EQ(end.exit_code, 0) << end.Text();
      EXPECT_TRUE(fs::exists(absl::StrCat(out, "/checkpoint-", steps, "/model.safetensors")));
    }
    EXPECT_FALSE(fs::exists(out + "/checkpoint-2"));
  }
}

// Relative paths are the caller's, whom `bazel run` names; without that they are the process's.
TEST_F(OddSurroundingsTest, RelativePaths) {
  const std::vector<std::string> flags = {
      "--output_dir",     "out",          "--config_name", "tiny_model",
      "--tokenizer_name", "./tiny_model", "--train_files", "train.jsonl",
      "--block_size",     "32",           "--max_steps",   "2"};
  const ProgramEnd by_bazel =
      RunProgram(kPretrain, {.arguments = flags,
                             .environment = {{"BUILD_WORKING_DIRECTORY", folder_}},
                             .working_folder = "/"});
  EXPECT_EQ(by_bazel.exit_code, 0) << by_bazel.Text();
  EXPECT_TRUE(fs::exists(out_ + "/model.safetensors"));
  fs::rename(out_, folder_ + "/first");
  const ProgramEnd plain = RunProgram(kPretrain, {.arguments = flags, .working_folder = folder_});
  EXPECT_EQ(plain.exit_code, 0) << plain.Text();
  EXPECT_TRUE(ReadFile(out_ + "/model.safetensors") ==
              ReadFile(folder_ + "/first/model.safetensors"));
}

// A config.json that is named without its folder has the tokenizer beside it, too.
TEST_F(OddSurroundingsTest, ConfigFileInTheCurrentFolder) {
  const std::vector<std::string> flags = {"--output_dir",  out_,
                                          "--config_name", "config.json",
                                          "--train_files", tiny_.train_file(),
                                          "--block_size",  "32",
                                          "--max_steps",   "1"};
  const ProgramEnd end =
      RunProgram(kPretrain, {.arguments = flags, .working_folder = tiny_.model_folder()});
  EXPECT_EQ(end.exit_code, 0) << end.Text();
  EXPECT_TRUE(fs::exists(out_ + "/tokenizer.json"));
}

// Closed outputs: no file of the run takes their place, and the run does its work.
TEST_F(OddSurroundingsTest, ClosedDescriptors) {
  ASSERT_EQ(RunProgram(kPretrain, {.arguments = tiny_.Flags(folder_ + "/reference")}).exit_code, 0);
  for (const int num_ranks : {1, 2}) {
    const std::string out = absl::StrCat(out_, num_ranks);
    const ProgramEnd end = RunProgram(
        kPretrain, {.arguments = tiny_.Flags(out, {"--nproc_per_node", absl::StrCat(num_ranks),
                                                   "--report_to", "tensorboard"}),
                    .closed_descriptors = {0, 1, 2}});
    EXPECT_EQ(end.exit_code, 0) << end.Text();
    EXPECT_TRUE(absl::StartsWith(ReadFile(out + "/.lathe.lock"), "process "));
    EXPECT_FALSE(absl::StrContains(ReadFile(out + "/.lathe.lock"), "loss"));
    if (num_ranks > 1) continue;
    EXPECT_TRUE(ReadFile(out + "/model.safetensors") ==
                ReadFile(folder_ + "/reference/model.safetensors"));
  }
}

// The reader of both outputs goes away, as `| head -n 1` does.
TEST_F(OddSurroundingsTest, ReaderGoesAway) {
  for (const char* num_ranks : {"1", "2"}) {
    const std::string out = absl::StrCat(out_, num_ranks);
    std::vector<std::string> words = {
        "-c", absl::StrCat("set -o pipefail; \"$@\" 2>&1 | head -n 1 > ", folder_, "/head"), "bash",
        fs::absolute(kPretrain).string()};
    for (const std::string& flag : tiny_.Flags(out, {"--nproc_per_node", num_ranks}))
      words.push_back(flag);
    const ProgramEnd end = RunProgram("/bin/bash", {.arguments = words});
    EXPECT_EQ(end.exit_code, 0) << end.Text();
    EXPECT_TRUE(fs::exists(out + "/model.safetensors"));
  }
}

// A rank that dies before the ranks have met, while the other waits: the launcher ends the rest.
TEST_F(OddSurroundingsTest, RankDiesBeforeTheRendezvous) {
  for (const int victim : {0, 1}) {
    Program program =
        Program::Start(kPretrain, {.arguments = tiny_.Flags(out_, {"--nproc_per_node", "2"})});
    pid_t pid = -1;
    while (pid < 0 && program.Seconds() < 10) pid = program.Rank(victim);
    ASSERT_GT(pid, 0);
    kill(pid, SIGKILL);
    const double killed = program.Seconds();
    const ProgramEnd end = program.Wait();
    EXPECT_EQ(end.exit_code, 128 + SIGKILL) << end.Text();
    EXPECT_LT(end.seconds - killed, 10);
    EXPECT_TRUE(end.Says(absl::StrCat("rank ", victim, " was killed by signal 9"))) << end.Text();
    EXPECT_TRUE(LiveDescendants().empty());
  }
}

// A rank that hangs, stopped by a debugger say, once the other has ended for a reason of its own.
TEST_F(OddSurroundingsTest, StoppedRankDoesNotKeepTheLauncher) {
  Program program = Program::Start(
      kPretrain,
      {.arguments = tiny_.Flags(out_, {"--nproc_per_node", "2", "--max_steps", "1000000"})});
  ASSERT_TRUE(program.WaitForOutput("Start training", 60));
  const pid_t victim = program.Rank(0), stopped = program.Rank(1);
  kill(stopped, SIGSTOP);
  kill(victim, SIGKILL);
  const double killed = program.Seconds();
  const ProgramEnd end = program.Wait();
  EXPECT_EQ(end.exit_code, 128 + SIGKILL) << end.Text();
  EXPECT_LT(end.seconds - killed, 10);
  EXPECT_TRUE(LiveDescendants().empty());
}

// The launcher itself dies: its ranks must not go on.
TEST_F(OddSurroundingsTest, LauncherDies) {
  Program program = Program::Start(
      kPretrain,
      {.arguments = tiny_.Flags(out_, {"--nproc_per_node", "2", "--max_steps", "1000000"})});
  ASSERT_TRUE(program.WaitForOutput("Start training", 60));
  program.Signal(SIGKILL);
  EXPECT_EQ(program.Wait().signal, SIGKILL);
  EXPECT_TRUE(LiveDescendants(5).empty());
}

}  // namespace
}  // namespace lathe
