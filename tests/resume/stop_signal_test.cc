// SIGTERM and SIGINT: a checkpoint of the step that runs, exit code 75, and the same command goes
// on to the bits of the run that nobody stopped. To the launcher's process alone, as a scheduler
// sends it.

#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/tests/process/program.h"
#include "lathe/tests/process/tiny_pretraining.h"
#include "lathe/tests/resume/run_outcome.h"

namespace lathe {
namespace {

constexpr int kStopped = 75;

class StopSignalTest : public testing::TestWithParam<std::tuple<int, int>> {
 protected:
  // Long enough that a signal comes while it trains.
  std::vector<std::string> Flags(const std::string& output_dir) const {
    return tiny_.Flags(output_dir,
                       {"--nproc_per_node", absl::StrCat(std::get<0>(GetParam())), "--max_steps",
                        "300", "--save_steps", "1000", "--logging_steps", "10", "--disable_tqdm"});
  }

  const std::string folder_ = NewFolder();
  const TinyPretraining tiny_{folder_};
};

TEST_P(StopSignalTest, SavesAndGoesOn) {
  const int signal = std::get<1>(GetParam());
  const std::string reference = folder_ + "/reference", out = folder_ + "/out";
  const ProgramEnd whole = RunProgram(kPretrain, {.arguments = Flags(reference)});
  ASSERT_EQ(whole.exit_code, 0) << whole.Text();

  Program program = Program::Start(kPretrain, {.arguments = Flags(out)});
  ASSERT_TRUE(program.WaitForOutput("'loss'", 60));
  program.Signal(signal);
  const double signalled = program.Seconds();
  const ProgramEnd stopped = program.Wait();
  EXPECT_EQ(stopped.exit_code, kStopped) << stopped.Text();
  EXPECT_LT(stopped.seconds - signalled, 10);
  EXPECT_TRUE(stopped.ErrorLines().empty()) << stopped.Text();
  EXPECT_TRUE(LiveDescendants().empty());
  const std::vector<int64_t> steps = CheckpointsIn(out);
  ASSERT_EQ(steps.size(), 1u) << stopped.Text();
  EXPECT_LT(steps[0], 300);
  ExpectWholeCheckpoints(out);
  EXPECT_FALSE(std::filesystem::exists(out + "/model.safetensors"))
      << "a stopped run is not a finished one";

  const ProgramEnd again = RunProgram(kPretrain, {.arguments = Flags(out)});
  EXPECT_EQ(again.exit_code, 0) << again.Text();
  EXPECT_TRUE(again.Says(absl::StrCat("checkpoint-", steps[0], " at step ", steps[0])))
      << again.Text();
  ExpectSameOutcome(ReadRunOutcome(reference), ReadRunOutcome(out));
}

// While it still reads its data, which takes longer than the two signals.
TEST_P(StopSignalTest, TwiceEndsAtOnce) {
  const auto [num_ranks, signal] = GetParam();
  std::string text;
  for (int i = 0; i < 400000; ++i)
    absl::StrAppend(&text, R"({"text": "a document of many documents, )", i, "\"}\n");
  WriteFile(folder_ + "/large.jsonl", text);
  const std::string out = folder_ + "/out";
  Program program = Program::Start(
      kPretrain, {.arguments = tiny_.Flags(out, {"--nproc_per_node", absl::StrCat(num_ranks),
                                                 "--train_files", folder_ + "/large.jsonl"})});
  ASSERT_TRUE(program.WaitForOutput("Training/evaluation parameters", 60));
  program.Signal(signal);
  usleep(200000);
  program.Signal(signal);
  const double signalled = program.Seconds();
  const ProgramEnd end = program.Wait();
  EXPECT_LT(end.seconds - signalled, 10);
  if (num_ranks == 1) {
    EXPECT_EQ(end.signal, signal) << end.Text();
  } else {
    EXPECT_EQ(end.exit_code, 128 + signal) << end.Text();
  }
  EXPECT_FALSE(end.Says("Start training")) << end.Text();
  EXPECT_TRUE(LiveDescendants().empty());
}

INSTANTIATE_TEST_SUITE_P(Signals, StopSignalTest,
                         testing::Values(std::tuple(1, SIGTERM), std::tuple(1, SIGINT),
                                         std::tuple(2, SIGTERM)));

}  // namespace
}  // namespace lathe
