// What may lie in --output_dir, and which checkpoint a run goes on from.

#include <csignal>
#include <filesystem>
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

namespace fs = std::filesystem;

class OutputFolderTest : public testing::Test {
 protected:
  ProgramEnd Run(const std::vector<std::string>& more = {}) const {
    return RunProgram(kPretrain, {.arguments = tiny_.Flags(out_, more)});
  }

  // Trains to the end in another folder.
  RunOutcome Uninterrupted(const std::vector<std::string>& more = {}) const {
    const std::string reference = folder_ + "/reference";
    const ProgramEnd end = RunProgram(kPretrain, {.arguments = tiny_.Flags(reference, more)});
    EXPECT_EQ(end.exit_code, 0) << end.Text();
    return ReadRunOutcome(reference);
  }

  // One line, that names `what`; exit code 2; no process left.
  static void ExpectRefused(const ProgramEnd& end, const std::vector<std::string>& what) {
    EXPECT_EQ(end.exit_code, 2) << end.Text();
    const std::vector<std::string> errors = end.ErrorLines();
    ASSERT_EQ(errors.size(), 1u) << end.Text();
    for (const std::string& word : what)
      EXPECT_TRUE(absl::StrContains(errors[0], word)) << word << ": " << errors[0];
  }

  // A run that is as if it had been killed after step `last`.
  void KeepCheckpointsUpTo(int64_t last) const {
    for (const int64_t step : CheckpointsIn(out_)) {
      if (step > last) fs::remove_all(absl::StrCat(out_, "/checkpoint-", step));
    }
    for (const auto& entry : fs::directory_iterator(out_)) {
      if (entry.is_regular_file()) fs::remove(entry.path());
    }
  }

  const std::string folder_ = NewFolder();
  const TinyPretraining tiny_{folder_};
  const std::string out_ = folder_ + "/out";
};

TEST_F(OutputFolderTest, SecondRunIsRefused) {
  Program first =
      Program::Start(kPretrain, {.arguments = tiny_.Flags(out_, {"--max_steps", "1000000"})});
  ASSERT_TRUE(first.WaitForOutput("Start training", 60));
  ExpectRefused(Run(), {out_, "in use by process", absl::StrCat(first.pid())});
  first.Signal(SIGTERM);
  EXPECT_EQ(first.Wait().exit_code, 75);
  EXPECT_EQ(Run({"--max_steps", absl::StrCat(CheckpointsIn(out_).back() + 2)}).exit_code, 0)
      << "the lock outlives its run";
}

TEST_F(OutputFolderTest, SecondRunOfTwoRanksIsRefused) {
  Program first =
      Program::Start(kPretrain, {.arguments = tiny_.Flags(out_, {"--max_steps", "1000000"})});
  ASSERT_TRUE(first.WaitForOutput("Start training", 60));
  const ProgramEnd second = Run({"--nproc_per_node", "2"});
  EXPECT_EQ(second.exit_code, 2) << second.Text();
  EXPECT_TRUE(second.Says("in use by process")) << second.Text();
  EXPECT_LE(second.ErrorLines().size(), 2u) << second.Text();
  first.Signal(SIGKILL);
  first.Wait();
}

TEST_F(OutputFolderTest, OtherContentIsRefused) {
  WriteFile(out_ + "/thesis.txt", "years of work");
  ExpectRefused(Run(), {out_, "not empty", "thesis.txt"});
  EXPECT_EQ(ReadFile(out_ + "/thesis.txt"), "years of work");
  ExpectRefused(Run({"--resume_from_checkpoint", "true"}), {"--resume_from_checkpoint true", out_});
}

TEST_F(OutputFolderTest, KilledBeforeItsFirstCheckpointStartsAgain) {
  const std::vector<std::string> flags = {
      "--report_to",  "tensorboard", "--logging_dir",      out_ + "/logs/here",
      "--save_steps", "7",           "--num_train_epochs", "1"};
  const RunOutcome wanted = Uninterrupted(flags);
  Program killed = Program::Start(kPretrain, {.arguments = tiny_.Flags(out_, flags)});
  ASSERT_TRUE(killed.WaitForOutput("'loss'", 60));
  killed.Signal(SIGKILL);
  killed.Wait();
  fs::remove_all(out_ + "/checkpoint-7");  // had it come that far
  const ProgramEnd again = Run(flags);
  EXPECT_EQ(again.exit_code, 0) << again.Text();
  ExpectSameOutcome(wanted, ReadRunOutcome(out_));
}

TEST_F(OutputFolderTest, FinishedRunStaysAsItIs) {
  ASSERT_EQ(Run().exit_code, 0);
  const RunOutcome before = ReadRunOutcome(out_);
  const ProgramEnd again = Run();
  EXPECT_EQ(again.exit_code, 0) << again.Text();
  ExpectSameOutcome(before, ReadRunOutcome(out_));
}

TEST_F(OutputFolderTest, ResumesFromTheNamedCheckpoint) {
  const RunOutcome wanted = Uninterrupted();
  ASSERT_EQ(Run().exit_code, 0);
  const ProgramEnd named = RunProgram(
      kPretrain, {.arguments = tiny_.Flags(folder_ + "/other",
                                           {"--resume_from_checkpoint", out_ + "/checkpoint-6"})});
  EXPECT_EQ(named.exit_code, 0) << named.Text();
  EXPECT_EQ(CheckpointsIn(folder_ + "/other"), (std::vector<int64_t>{8, 10, 12, 14}));
  ExpectSameOutcome(wanted, ReadRunOutcome(folder_ + "/other"));

  ExpectRefused(Run({"--resume_from_checkpoint", folder_ + "/nowhere"}),
                {"--resume_from_checkpoint", "nowhere"});
}

TEST_F(OutputFolderTest, NamedCheckpointIsVerified) {
  ASSERT_EQ(Run().exit_code, 0);
  const std::string file = out_ + "/checkpoint-6/optimizer.safetensors";
  std::string bytes = ReadFile(file);
  bytes[bytes.size() - 3] ^= 1;
  WriteFile(file, bytes);
  ExpectRefused(RunProgram(kPretrain, {.arguments = tiny_.Flags(
                                           folder_ + "/other",
                                           {"--resume_from_checkpoint", out_ + "/checkpoint-6"})}),
                {"checkpoint-6", "optimizer.safetensors", "checksum"});
}

TEST_F(OutputFolderTest, ResumeFalseDoesNotResume) {
  ASSERT_EQ(Run({"--max_steps", "4"}).exit_code, 0);
  ExpectRefused(Run({"--resume_from_checkpoint", "false"}),
                {"--resume_from_checkpoint false", out_});
  EXPECT_EQ(CheckpointsIn(out_), (std::vector<int64_t>{2, 4}));
  const ProgramEnd fresh = RunProgram(
      kPretrain,
      {.arguments = tiny_.Flags(folder_ + "/new", {"--resume_from_checkpoint", "false"})});
  EXPECT_EQ(fresh.exit_code, 0) << fresh.Text();
}

TEST_F(OutputFolderTest, FewerStepsThanTheCheckpoint) {
  ASSERT_EQ(Run({"--max_steps", "8"}).exit_code, 0);
  const RunOutcome before = ReadRunOutcome(out_);
  ExpectRefused(Run({"--max_steps", "5"}), {"checkpoint-8", "step 8", "--max_steps"});
  ExpectSameOutcome(before, ReadRunOutcome(out_));
}

TEST_F(OutputFolderTest, MoreStepsThanTheCheckpoint) {
  const RunOutcome wanted = Uninterrupted({"--max_steps", "12", "--lr_scheduler_type", "constant"});
  ASSERT_EQ(Run({"--max_steps", "8", "--lr_scheduler_type", "constant"}).exit_code, 0);
  ASSERT_EQ(Run({"--max_steps", "12", "--lr_scheduler_type", "constant"}).exit_code, 0);
  const RunOutcome found = ReadRunOutcome(out_);
  EXPECT_TRUE(wanted.files.at("model.safetensors") == found.files.at("model.safetensors"));
}

TEST_F(OutputFolderTest, DamagedNewestFallsBack) {
  const RunOutcome wanted = Uninterrupted();
  ASSERT_EQ(Run().exit_code, 0);
  KeepCheckpointsUpTo(10);
  const std::string file = out_ + "/checkpoint-10/model.safetensors";
  std::string bytes = ReadFile(file);
  bytes[bytes.size() / 2] ^= 4;
  WriteFile(file, bytes);
  fs::resize_file(out_ + "/checkpoint-8/optimizer.safetensors", 100);
  const ProgramEnd again = Run();
  EXPECT_EQ(again.exit_code, 0) << again.Text();
  EXPECT_TRUE(again.Says("checkpoint-6 at step 6")) << again.Text();
  EXPECT_TRUE(again.Says("checkpoint-10 is damaged")) << again.Text();
  ExpectSameOutcome(wanted, ReadRunOutcome(out_));
}

TEST_F(OutputFolderTest, AllDamagedIsRefused) {
  ASSERT_EQ(Run({"--max_steps", "2"}).exit_code, 0);
  fs::resize_file(out_ + "/checkpoint-2/optimizer.safetensors", 100);
  ExpectRefused(Run({"--max_steps", "4"}), {"none of the checkpoints", "checkpoint-2"});
}

// At each checkpoint, that of an epoch's last update included: evaluation and logging at the end of
// the epoch come once.
TEST_F(OutputFolderTest, EveryCheckpointLeadsToTheSameHistory) {
  const std::vector<std::string> flags = {
      "--save_steps",    "1",     "--logging_strategy", "epoch",
      "--eval_strategy", "epoch", "--validation_files", tiny_.validation_file()};
  const RunOutcome wanted = Uninterrupted(flags);
  ASSERT_EQ(Run(flags).exit_code, 0);
  for (const int64_t step : {13, 8, 7, 6, 1}) {
    if (HasFailure()) break;
    SCOPED_TRACE(step);
    KeepCheckpointsUpTo(step);
    const ProgramEnd again = Run(flags);
    EXPECT_EQ(again.exit_code, 0) << again.Text();
    ExpectSameOutcome(wanted, ReadRunOutcome(out_));
    KeepCheckpointsUpTo(step);
  }
}

// The last step's checkpoint, when the end lies within an epoch.
TEST_F(OutputFolderTest, EndWithinAnEpoch) {
  const std::vector<std::string> flags = {
      "--max_steps",     "10",    "--logging_strategy", "epoch",
      "--eval_strategy", "epoch", "--validation_files", tiny_.validation_file()};
  const RunOutcome wanted = Uninterrupted(flags);
  ASSERT_EQ(Run(flags).exit_code, 0);
  KeepCheckpointsUpTo(10);
  const ProgramEnd again = Run(flags);
  EXPECT_EQ(again.exit_code, 0) << again.Text();
  ExpectSameOutcome(wanted, ReadRunOutcome(out_));
}

TEST_F(OutputFolderTest, OnlyTheNewestStay) {
  ASSERT_EQ(Run({"--save_total_limit", "2"}).exit_code, 0);
  EXPECT_EQ(CheckpointsIn(out_), (std::vector<int64_t>{12, 14}));
  ExpectWholeCheckpoints(out_);
}

// A rate that spoils the model, so that the first evaluation is the best; the limit must not take
// its checkpoint.
TEST_F(OutputFolderTest, TheBestStaysAndIsLoaded) {
  const std::vector<std::string> flags = {"--save_total_limit",
                                          "2",
                                          "--eval_strategy",
                                          "steps",
                                          "--eval_steps",
                                          "2",
                                          "--load_best_model_at_end",
                                          "--learning_rate",
                                          "3",
                                          "--lr_scheduler_type",
                                          "constant",
                                          "--validation_files",
                                          tiny_.validation_file()};
  const RunOutcome wanted = Uninterrupted(flags);
  ASSERT_EQ(Run(flags).exit_code, 0);
  const std::vector<int64_t> steps = CheckpointsIn(out_);
  ASSERT_EQ(steps.size(), 2u);
  EXPECT_EQ(steps[1], 14);
  const nlohmann::json state = nlohmann::json::parse(ReadFile(out_ + "/trainer_state.json"));
  const std::string best = absl::StrCat(out_, "/checkpoint-", steps[0]);
  EXPECT_EQ(state["best_model_checkpoint"], best);
  EXPECT_TRUE(ReadFile(best + "/model.safetensors") == ReadFile(out_ + "/model.safetensors"));

  // The same after a kill between the last checkpoint and the end.
  KeepCheckpointsUpTo(14);
  const ProgramEnd again = Run(flags);
  EXPECT_EQ(again.exit_code, 0) << again.Text();
  ExpectSameOutcome(wanted, ReadRunOutcome(out_));
}

// As Hugging Face's Trainer: under a limit of 1, the newest goes when the model is saved.
TEST_F(OutputFolderTest, UnderALimitOfOneTheBestAloneStays) {
  ASSERT_EQ(Run({"--save_total_limit", "1", "--eval_strategy", "steps", "--eval_steps", "2",
                 "--load_best_model_at_end", "--learning_rate", "3", "--lr_scheduler_type",
                 "constant", "--validation_files", tiny_.validation_file()})
                .exit_code,
            0);
  const std::vector<int64_t> steps = CheckpointsIn(out_);
  ASSERT_EQ(steps.size(), 1u);
  EXPECT_NE(steps[0], 14);
  const nlohmann::json state = nlohmann::json::parse(ReadFile(out_ + "/trainer_state.json"));
  EXPECT_EQ(state["best_model_checkpoint"], absl::StrCat(out_, "/checkpoint-", steps[0]));
}

// Early stopping is part of what a resumed run must know: how long it has waited, and that it has
// stopped.
TEST_F(OutputFolderTest, EarlyStoppingGoesOnCounting) {
  const std::vector<std::string> flags = {
      "--early_stopping_patience", "3", "--eval_strategy", "steps", "--eval_steps", "2",
      // No improvement is enough, whatever the numbers are.
      "--early_stopping_threshold", "1000", "--validation_files", tiny_.validation_file()};
  const RunOutcome wanted = Uninterrupted(flags);
  ASSERT_EQ(wanted.last_checkpoint, 8) << "it did not stop after the fourth evaluation";
  ASSERT_EQ(Run(flags).exit_code, 0);
  for (const int64_t step : {wanted.last_checkpoint, wanted.last_checkpoint - 2}) {
    KeepCheckpointsUpTo(step);
    const ProgramEnd again = Run(flags);
    EXPECT_EQ(again.exit_code, 0) << again.Text();
    ExpectSameOutcome(wanted, ReadRunOutcome(out_));
  }
}

}  // namespace
}  // namespace lathe
