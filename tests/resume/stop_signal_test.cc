// SIGTERM and SIGINT: a checkpoint of the step that runs, exit code 75, and the same command goes
// on to the bits of the run that nobody stopped. To the launcher's process alone, as a scheduler
// sends it.

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

// While it still reads its data: there is nothing to save.
TEST_P(StopSignalTest, WhileTokenisingEndsAtOnce) {
  const auto [num_ranks, signal] = GetParam();
  std::string text;
  for (int i = 0; i < 400000; ++i)
    absl::StrAppend(&text, R"({"text": "a document of many documents, )", i, "\"}\n");
  WriteFile(folder_ + "/large.jsonl", text);
  const std::string out = folder_ + "/out";
  Program program = Program::Start(
      kPretrain, {.arguments = tiny_.Flags(out, {"--nproc_per_node", absl::StrCat(num_ranks),
                                                 "--train_files", folder_ + "/large.jsonl"})});
  ASSERT_TRUE(program.WaitForOutput("Pretraining a new model", 60));
  program.Signal(signal);
  const double signalled = program.Seconds();
  const ProgramEnd end = program.Wait();
  EXPECT_LT(end.seconds - signalled, 10);
  EXPECT_EQ(end.exit_code, kStopped) << end.Text();
  EXPECT_FALSE(end.Says("Start training")) << end.Text();
  EXPECT_TRUE(end.ErrorLines().empty()) << end.Text();
  EXPECT_TRUE(LiveDescendants().empty());
}

// While it evaluates: the evaluation is made again by the run that goes on.
TEST_P(StopSignalTest, WhileEvaluatingSavesAndGoesOn) {
  const auto [num_ranks, signal] = GetParam();
  std::string text;
  for (int i = 0; i < 400; ++i) {
    absl::StrAppend(&text, R"({"text": "one more document to evaluate on, of about a block )", i,
                    "\"}\n");
  }
  WriteFile(folder_ + "/long_validation.jsonl", text);
  const auto flags = [&, num_ranks = num_ranks](const std::string& output_dir) {
    return tiny_.Flags(
        output_dir,
        {"--nproc_per_node", absl::StrCat(num_ranks), "--eval_strategy", "steps", "--eval_steps",
         "4", "--save_steps", "4", "--logging_steps", "4", "--per_device_eval_batch_size", "1",
         "--validation_files", folder_ + "/long_validation.jsonl", "--disable_tqdm"});
  };
  const std::string reference = folder_ + "/reference", out = folder_ + "/out";
  const ProgramEnd whole = RunProgram(kPretrain, {.arguments = flags(reference)});
  ASSERT_EQ(whole.exit_code, 0) << whole.Text();

  Program program = Program::Start(kPretrain, {.arguments = flags(out)});
  // The line of the update that is evaluated after.
  ASSERT_TRUE(program.WaitForOutput("'loss'", 60));
  program.Signal(signal);
  const double signalled = program.Seconds();
  const ProgramEnd stopped = program.Wait();
  EXPECT_EQ(stopped.exit_code, kStopped) << stopped.Text();
  EXPECT_LT(stopped.seconds - signalled, 10);
  EXPECT_FALSE(stopped.Says("eval_loss")) << "the signal came too late for this test";
  EXPECT_EQ(CheckpointsIn(out), std::vector<int64_t>{4});

  const ProgramEnd again = RunProgram(kPretrain, {.arguments = flags(out)});
  EXPECT_EQ(again.exit_code, 0) << again.Text();
  ExpectSameOutcome(ReadRunOutcome(reference), ReadRunOutcome(out));
}

INSTANTIATE_TEST_SUITE_P(Signals, StopSignalTest,
                         testing::Values(std::tuple(1, SIGTERM), std::tuple(1, SIGINT),
                                         std::tuple(2, SIGTERM)));

}  // namespace
}  // namespace lathe
