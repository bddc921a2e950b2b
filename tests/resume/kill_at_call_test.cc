// A run is killed before the writes, syncs, renames and the other calls that change its output
// folder: at its start, in the middle of a save, and while the final model moves into place.
// Started again by the same command, it ends with the bits of the run that nobody interrupted.

#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <iostream>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "lathe/tests/process/program.h"
#include "lathe/tests/process/tiny_pretraining.h"
#include "lathe/tests/resume/run_outcome.h"

namespace lathe {
namespace {

constexpr char kShim[] = "tests/faults/kill_at_call/kill_at_call.so";
// A rank's death ends the launcher within 10 seconds; what came before takes one or two on an idle
// machine.
constexpr double kMostSeconds = 20;

struct Call {
  int number;
  std::string operation;
  std::string path;
};

std::vector<Call> ReadCalls(const std::string& log) {
  std::vector<Call> calls;
  for (const std::string_view line : absl::StrSplit(ReadFile(log), '\n', absl::SkipEmpty())) {
    const std::vector<std::string> words = absl::StrSplit(line, absl::MaxSplits(' ', 2));
    calls.push_back({static_cast<int>(calls.size()) + 1, words[1], words[2]});
  }
  return calls;
}

// The calls to die before: the start of the run, the save of step 4 and the final model.
std::vector<Call> Choose(const std::vector<Call>& calls) {
  std::vector<Call> chosen;
  bool at_start = true, after_save = false;
  for (size_t i = 0; i < calls.size(); ++i) {
    const Call& call = calls[i];
    const bool of_checkpoint = absl::StrContains(call.path, "checkpoint-");
    const bool of_step_4 = absl::StrContains(call.path, "checkpoint-4");
    at_start = at_start && !of_checkpoint;
    const bool of_model = absl::StrContains(call.path, ".lathe-tmp-model") || calls.size() - i < 12;
    // The sync of the folder after the rename.
    const bool seals_step_4 = after_save && call.operation == "fsync";
    after_save = of_step_4;
    if (at_start || of_step_4 || of_model || seals_step_4) chosen.push_back(call);
  }
  return chosen;
}

// Parameters: ranks, which share of the calls out of how many (shares run side by side), whether
// saves are asynchronous.
class KillAtCallTest : public testing::TestWithParam<std::tuple<int, int, int, bool>> {};

TEST_P(KillAtCallTest, SameBits) {
  const auto [num_ranks, share, num_shares, async_save] = GetParam();
  const std::string folder = NewFolder();
  const TinyPretraining tiny(folder);
  const std::string reference = folder + "/reference", out = folder + "/out",
                    log = folder + "/calls";
  const auto flags = [&](const std::string& output_dir) {
    return tiny.Flags(output_dir, {"--nproc_per_node", absl::StrCat(num_ranks),
                                   absl::StrCat("--async_save=", async_save ? "true" : "false")});
  };
  std::map<std::string, std::string> fault = {
      {"LD_PRELOAD", std::filesystem::absolute(kShim).string()},
      {"LATHE_FAULT_PATH", reference},
      {"LATHE_FAULT_LOG", log}};
  // Rank 0 writes all that data-parallel ranks have.
  if (num_ranks > 1) fault["LATHE_FAULT_ONLY_IF"] = "RANK=0";
  const ProgramEnd counted =
      RunProgram(kPretrain, {.arguments = flags(reference), .environment = fault});
  ASSERT_EQ(counted.exit_code, 0) << counted.Text();
  const RunOutcome wanted = ReadRunOutcome(reference);
  const std::vector<Call> calls = Choose(ReadCalls(log));
  ASSERT_GT(calls.size(), 50u);

  fault.erase("LATHE_FAULT_LOG");
  fault["LATHE_FAULT_PATH"] = out;
  int num_kills = 0;
  for (size_t i = share; i < calls.size() && !HasFailure(); i += num_shares) {
    SCOPED_TRACE(absl::StrCat("killed before call ", calls[i].number, ", ", calls[i].operation, " ",
                              calls[i].path));
    std::filesystem::remove_all(out);
    fault["LATHE_FAULT_CALL"] = absl::StrCat(calls[i].number);
    const ProgramEnd killed =
        RunProgram(kPretrain, {.arguments = flags(out), .environment = fault});
    if (num_ranks == 1) {
      EXPECT_EQ(killed.signal, SIGKILL) << killed.Text();
    } else {
      EXPECT_EQ(killed.exit_code, 128 + SIGKILL) << killed.Text();
    }
    EXPECT_LT(killed.seconds, kMostSeconds);
    EXPECT_TRUE(LiveDescendants().empty());
    ExpectWholeCheckpoints(out);
    const ProgramEnd again = RunProgram(kPretrain, {.arguments = flags(out)});
    EXPECT_EQ(again.exit_code, 0) << again.Text();
    ExpectSameOutcome(wanted, ReadRunOutcome(out));
    ExpectNoLeftovers(out);
    ++num_kills;
  }
  std::cout << num_kills << " runs of " << num_ranks
            << " ranks were killed and ended with the same bits\n";
}

INSTANTIATE_TEST_SUITE_P(Every, KillAtCallTest,
                         testing::Values(std::tuple(1, 0, 2, false), std::tuple(1, 1, 2, false),
                                         std::tuple(2, 0, 4, false), std::tuple(2, 1, 4, false),
                                         std::tuple(2, 2, 4, false), std::tuple(2, 3, 4, false),
                                         std::tuple(1, 0, 1, true), std::tuple(2, 0, 4, true)));

}  // namespace
}  // namespace lathe
