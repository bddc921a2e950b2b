// A run is killed again and again at random moments, start-up and saving included, and started
// again by the same command until it ends: with the bits of the run that nobody interrupted. With
// two ranks the victim is one of them or their launcher: in each case nobody stays behind.

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <iostream>
#include <random>
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

// From the kill to the end of the launcher and of everything that it started.
constexpr double kMostSecondsToEnd = 10;

// Who dies: the program itself, which is the launcher when there are ranks, or one of those.
void Kill(const Program& program, int num_ranks, int victim) {
  const pid_t pid = num_ranks == 1 || victim == num_ranks ? program.pid() : program.Rank(victim);
  if (pid > 0) kill(pid, SIGKILL);
}

class RandomKillTest : public testing::TestWithParam<std::tuple<int, int, int, bool>> {
 protected:
  void SetUp() override {
    tiny_ = std::make_unique<TinyPretraining>(folder_);
    reference_ = Run(folder_ + "/reference", &whole_seconds_);
  }

  std::vector<std::string> Flags(const std::string& output_dir) const {
    return tiny_->Flags(
        output_dir, {"--nproc_per_node", absl::StrCat(num_ranks_), "--eval_strategy", "epoch",
                     "--validation_files", tiny_->validation_file(),
                     absl::StrCat("--async_save=", std::get<3>(GetParam()) ? "true" : "false")});
  }

  RunOutcome Run(const std::string& output_dir, double* seconds) const {
    const ProgramEnd end = RunProgram(kPretrain, {.arguments = Flags(output_dir)});
    EXPECT_EQ(end.exit_code, 0) << end.Text();
    *seconds = end.seconds;
    return ReadRunOutcome(output_dir);
  }

  const int num_ranks_ = std::get<0>(GetParam());
  const std::string folder_ = NewFolder();
  std::unique_ptr<TinyPretraining> tiny_;
  RunOutcome reference_;
  double whole_seconds_ = 0;
};

TEST_P(RandomKillTest, SameBits) {
  const int wanted_kills = std::get<1>(GetParam());
  std::mt19937_64 random(std::get<2>(GetParam()));
  const auto uniform = [&](double low, double high) {
    return std::uniform_real_distribution(low, high)(random);
  };
  const std::string out = folder_ + "/out";
  int num_kills = 0, num_runs = 0, num_kills_in_epoch_2 = 0;
  while ((num_kills < wanted_kills || num_kills_in_epoch_2 == 0) && !HasFailure()) {
    std::filesystem::remove_all(out);
    while (!HasFailure()) {
      Program program = Program::Start(kPretrain, {.arguments = Flags(out)});
      // Two of three while it trains, at a moment that moves through the run; the others at any,
      // its start included.
      if (uniform(0, 3) < 2) program.WaitForOutput("Start training", 60);
      usleep(static_cast<useconds_t>(1e6 * uniform(0, 0.7 * whole_seconds_)));
      const bool past_epoch_1 = !CheckpointsIn(out).empty() && CheckpointsIn(out).back() >= 8;
      if (num_kills < wanted_kills || num_kills_in_epoch_2 == 0) {
        Kill(program, num_ranks_, static_cast<int>(uniform(0, num_ranks_ + 1)));
      }
      const double from_kill = program.Seconds();
      const ProgramEnd end = program.Wait();
      EXPECT_LT(end.seconds - from_kill, end.exit_code == 0 ? 60 : kMostSecondsToEnd) << end.Text();
      EXPECT_TRUE(LiveDescendants(2).empty()) << "somebody stayed behind";
      ExpectWholeCheckpoints(out);
      if (end.exit_code == 0) break;
      EXPECT_TRUE(end.signal == SIGKILL || end.exit_code == 128 + SIGKILL) << end.Text();
      ++num_kills;
      if (past_epoch_1) ++num_kills_in_epoch_2;
    }
    ++num_runs;
    ExpectSameOutcome(reference_, ReadRunOutcome(out));
    ExpectNoLeftovers(out);
  }
  std::cout << num_kills << " kills in " << num_runs << " runs of " << num_ranks_ << " ranks, "
            << num_kills_in_epoch_2 << " of them in epoch 2: the same bits\n";
}

// Ranks, kills, seed, whether saves are asynchronous.
INSTANTIATE_TEST_SUITE_P(Few, RandomKillTest,
                         testing::Values(std::tuple(1, 3, 1, false), std::tuple(2, 2, 2, false)));
INSTANTIATE_TEST_SUITE_P(Hundred, RandomKillTest,
                         testing::Values(std::tuple(1, 100, 3, false), std::tuple(2, 100, 4, false),
                                         std::tuple(1, 30, 5, true), std::tuple(2, 30, 6, true)));

}  // namespace
}  // namespace lathe
