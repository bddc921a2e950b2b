// A rank is killed, or stopped so that it hangs, in each phase of a real run of four ranks. The
// launcher must name it, its host, step and phase and the collective in which the others wait, and
// end within 10 seconds with nobody left behind and no half checkpoint.
//
// Also a thread that is stuck while its process goes on.
//
// The test looks at the ranks' beacons to find the phase: it stops the rank there, reads again, and
// lets it go on if the phase was over before the signal came.

#include <sys/types.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "lathe/base/beacon.h"
#include "lathe/tests/process/program.h"
#include "lathe/tests/process/tiny_pretraining.h"
#include "lathe/tests/resume/run_outcome.h"

namespace lathe {
namespace {

constexpr char kShim[] = "tests/faults/kill_at_call/kill_at_call.so";
constexpr int kNumRanks = 4;
constexpr int kHangTimeout = 5;
constexpr double kMostSecondsToEnd = 10;

enum class Fault { kKill, kStop };

// How the four ranks share the work; what is not said is data-parallel.
struct Layout {
  const char* name;
  std::vector<std::string> flags;
};

const Layout& TensorParallel() {
  static const auto* const layout = new Layout{"Tensor", {"--tensor_model_parallel_size", "2"}};
  return *layout;
}

const Layout& PipelineParallel() {
  static const auto* const layout = new Layout{"Pipeline", {"--pipeline_model_parallel_size", "2"}};
  return *layout;
}

// The launcher's board, found among its descriptors.
std::unique_ptr<BeaconBoard> FindBoard(pid_t launcher) {
  std::error_code ignored;
  for (const auto& entry :
       std::filesystem::directory_iterator(absl::StrCat("/proc/", launcher, "/fd"), ignored)) {
    const std::string target = std::filesystem::read_symlink(entry.path(), ignored).string();
    if (!absl::StrContains(target, BeaconBoard::kName)) continue;
    absl::StatusOr<BeaconBoard> board = BeaconBoard::Open(entry.path().string());
    if (board.ok()) return std::make_unique<BeaconBoard>(*std::move(board));
  }
  return nullptr;
}

// Stops the rank in the phase, once it trains. Returns what its beacon says then.
BeaconReading StopIn(Phase phase, int rank, pid_t pid, const BeaconBoard& board,
                     const Program& program) {
  while (program.Seconds() < 60) {
    const BeaconReading seen = board.Read(rank);
    if (seen.phase == phase && seen.step >= 1) {
      kill(pid, SIGSTOP);
      usleep(20000);  // each of its threads comes to a halt
      const BeaconReading stopped = board.Read(rank);
      if (stopped.phase == phase && stopped.step >= 1) return stopped;
      kill(pid, SIGCONT);
    }
    usleep(100);
  }
  ADD_FAILURE() << "rank " << rank << " was never seen in " << PhaseName(phase);
  return {};
}

std::string LineOf(const ProgramEnd& end, std::string_view begin) {
  for (const std::string_view line : absl::StrSplit(end.err, '\n')) {
    if (absl::StartsWith(line, begin)) return std::string(line);
  }
  return "";
}

using Case = std::tuple<Layout, Phase, Fault, int>;

class FailingRankTest : public testing::TestWithParam<Case> {};

TEST_P(FailingRankTest, IsNamedAndEndsTheRun) {
  const auto [layout, phase, fault, victim] = GetParam();
  const std::string folder = NewFolder(), out = folder + "/out";
  const TinyPretraining tiny(folder, /*num_layers=*/2);
  std::vector<std::string> flags = layout.flags;
  // Ranks in every kind of group, evaluations and saves every other step.
  flags.insert(flags.end(), {"--nproc_per_node", absl::StrCat(kNumRanks), "--max_steps", "1000000",
                             "--gradient_accumulation_steps", "2", "--eval_strategy", "steps",
                             "--eval_steps", "2", "--save_total_limit", "2", "--validation_files",
                             tiny.validation_file(), "--hang_timeout_in_seconds",
                             absl::StrCat(fault == Fault::kStop ? kHangTimeout : 600)});
  Program program = Program::Start(kPretrain, {.arguments = tiny.Flags(out, flags)});
  ASSERT_TRUE(program.WaitForOutput("Start training", 60)) << program.Wait(0).Text();
  const std::unique_ptr<BeaconBoard> board = FindBoard(program.pid());
  ASSERT_NE(board, nullptr);
  const pid_t pid = program.Rank(victim);
  ASSERT_GT(pid, 0);
  const BeaconReading at = StopIn(phase, victim, pid, *board, program);
  if (HasFailure()) return;
  const double from = program.Seconds();
  if (fault == Fault::kKill) kill(pid, SIGKILL);
  const ProgramEnd end = program.Wait(60);

  EXPECT_EQ(end.exit_code, 128 + SIGKILL) << end.Text();
  EXPECT_LT(end.seconds - from, kMostSecondsToEnd + (fault == Fault::kStop ? kHangTimeout : 0));
  const std::string line = LineOf(end, absl::StrCat("rank ", victim, " "));
  EXPECT_TRUE(
      absl::StrContains(line, fault == Fault::kKill ? "was killed by signal 9" : "is stopped"))
      << end.Text();
  char host[256] = {};
  ASSERT_EQ(gethostname(host, sizeof(host) - 1), 0);
  EXPECT_TRUE(absl::StrContains(line, absl::StrCat(" on host ", host, ","))) << line;
  EXPECT_TRUE(absl::StrContains(
      line, absl::StrCat("at step ", at.step, " in ", PhaseName(phase),
                         at.collective.empty() ? ";" : ", within ", at.collective)))
      << line;
  // All of the others, each in some collective.
  EXPECT_TRUE(absl::StrContains(line, " waiting in ")) << line;
  for (int other = 0; other < kNumRanks; ++other) {
    if (other == victim) continue;
    EXPECT_FALSE(board->Read(other).collective.empty()) << "rank " << other << ": " << line;
  }
  EXPECT_TRUE(LiveDescendants().empty()) << "somebody stayed behind";
  ExpectWholeCheckpoints(out);
}

// A thread that is stuck, in a process that is not stopped: rank 0 within its first save.
TEST(StuckThreadTest, IsNamedAndEndsTheRun) {
  const std::string folder = NewFolder(), out = folder + "/out";
  const TinyPretraining tiny(folder);
  const ProgramEnd end = RunProgram(
      kPretrain,
      {.arguments = tiny.Flags(out, {"--nproc_per_node", "2", "--max_steps", "1000000",
                                     "--hang_timeout_in_seconds", absl::StrCat(kHangTimeout)}),
       .environment = {{"LD_PRELOAD", std::filesystem::absolute(kShim).string()},
                       {"LATHE_FAULT_PATH", out + "/.lathe-tmp-checkpoint-2"},
                       {"LATHE_FAULT_CALL", "2"},
                       {"LATHE_FAULT_ACTION", "hang"},
                       {"LATHE_FAULT_ONLY_IF", "RANK=0"}}});
  EXPECT_EQ(end.exit_code, 128 + SIGKILL) << end.Text();
  const std::string line = LineOf(end, "rank 0 hangs, ");
  EXPECT_TRUE(absl::StrContains(line, "at step 2 in save; rank 1 waiting in all-gather in group"))
      << end.Text();
  EXPECT_TRUE(LiveDescendants().empty()) << "somebody stayed behind";
  EXPECT_TRUE(CheckpointsIn(out).empty()) << "half a checkpoint";
}

std::string Name(const testing::TestParamInfo<Case>& info) {
  const auto& [layout, phase, fault, victim] = info.param;
  return absl::StrCat(layout.name, "_", fault == Fault::kKill ? "Kill" : "Stop", "_",
                      PhaseName(phase), "_", victim);
}

INSTANTIATE_TEST_SUITE_P(Few, FailingRankTest,
                         testing::Values(Case(TensorParallel(), Phase::kBackward, Fault::kKill, 2),
                                         Case(TensorParallel(), Phase::kSave, Fault::kKill, 0),
                                         Case(PipelineParallel(), Phase::kForward, Fault::kStop,
                                              1)),
                         Name);
INSTANTIATE_TEST_SUITE_P(Every, FailingRankTest,
                         testing::Combine(testing::Values(TensorParallel(), PipelineParallel()),
                                          testing::Values(Phase::kForward, Phase::kBackward,
                                                          Phase::kReduction, Phase::kOptimizer,
                                                          Phase::kEvaluation, Phase::kSave),
                                          testing::Values(Fault::kKill, Fault::kStop),
                                          testing::Range(0, kNumRanks)),
                         Name);

}  // namespace
}  // namespace lathe
