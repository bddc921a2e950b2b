// The disk fills up, at every point at which a save can notice: one line that says so, an exit
// code, the checkpoints before it whole, nothing half-written, and the same command goes on once
// there is room.

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

// Numbers of the calls of the save of step 4 and of the final model that need space or a new name.
std::vector<int> CallsThatNeedSpace(const std::string& log) {
  std::vector<int> numbers;
  int number = 0;
  for (const std::string_view line : absl::StrSplit(ReadFile(log), '\n', absl::SkipEmpty())) {
    ++number;
    const bool removes = absl::StrContains(line, " unlink ") || absl::StrContains(line, " rmdir ");
    const bool saves =
        absl::StrContains(line, "checkpoint-4") || absl::StrContains(line, ".lathe-tmp-model");
    if (saves && !removes) numbers.push_back(number);
  }
  return numbers;
}

// Parameters: ranks, the share of the calls that is tried.
class FullDiskTest : public testing::TestWithParam<std::tuple<int, int, int>> {};

TEST_P(FullDiskTest, LosesNothing) {
  const auto [num_ranks, share, num_shares] = GetParam();
  const std::string folder = NewFolder();
  const TinyPretraining tiny(folder);
  const std::string reference = folder + "/reference", out = folder + "/out",
                    log = folder + "/calls";
  const auto flags = [&](const std::string& output_dir) {
    return tiny.Flags(output_dir, {"--nproc_per_node", absl::StrCat(num_ranks)});
  };
  std::map<std::string, std::string> fault = {
      {"LD_PRELOAD", std::filesystem::absolute(kShim).string()},
      {"LATHE_FAULT_PATH", reference},
      {"LATHE_FAULT_LOG", log},
      {"LATHE_FAULT_ACTION", "enospc"}};
  if (num_ranks > 1) fault["LATHE_FAULT_ONLY_IF"] = "RANK=0";
  const ProgramEnd counted =
      RunProgram(kPretrain, {.arguments = flags(reference), .environment = fault});
  ASSERT_EQ(counted.exit_code, 0) << counted.Text();
  const RunOutcome wanted = ReadRunOutcome(reference);
  const std::vector<int> calls = CallsThatNeedSpace(log);
  ASSERT_GT(calls.size(), 50u);

  fault.erase("LATHE_FAULT_LOG");
  fault["LATHE_FAULT_PATH"] = out;
  int num_failures = 0;
  for (size_t i = share; i < calls.size() && !HasFailure(); i += num_shares) {
    std::filesystem::remove_all(out);
    fault["LATHE_FAULT_CALL"] = absl::StrCat(calls[i]);
    SCOPED_TRACE(absl::StrCat("full from call ", calls[i], " on"));
    const ProgramEnd full = RunProgram(kPretrain, {.arguments = flags(out), .environment = fault});
    EXPECT_EQ(full.exit_code, 2) << full.Text();
    const std::vector<std::string> errors = full.ErrorLines();
    ASSERT_FALSE(errors.empty()) << full.Text();
    EXPECT_LE(errors.size(), num_ranks) << full.Text();
    for (const std::string& error : errors) {
      EXPECT_TRUE(absl::StrContains(error, "No space left on device")) << error;
      EXPECT_TRUE(absl::StrContains(error, out)) << error;
    }
    ExpectWholeCheckpoints(out);
    EXPECT_GE(CheckpointsIn(out).size(), 1u);
    ExpectNoLeftovers(out);
    if (i % (4 * num_shares) == share) {
      const ProgramEnd again = RunProgram(kPretrain, {.arguments = flags(out)});
      EXPECT_EQ(again.exit_code, 0) << again.Text();
      ExpectSameOutcome(wanted, ReadRunOutcome(out));
    }
    ++num_failures;
  }
  std::cout << num_failures << " runs of " << num_ranks
            << " ranks met a full disk and lost nothing\n";
}

INSTANTIATE_TEST_SUITE_P(Every, FullDiskTest,
                         testing::Values(std::tuple(1, 0, 2), std::tuple(1, 1, 2),
                                         std::tuple(2, 0, 10), std::tuple(2, 1, 10)));

}  // namespace
}  // namespace lathe
