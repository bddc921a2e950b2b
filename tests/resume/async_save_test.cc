// --async_save: the checkpoints of a run that writes them in the background are those of a run that
// waits, to the bit; a write that fails there ends the run at the next update, and loses nothing.

#include <filesystem>
#include <map>
#include <string>
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

class AsyncSaveTest : public testing::TestWithParam<int> {
 protected:
  std::vector<std::string> Flags(const std::string& output_dir,
                                 std::vector<std::string> more) const {
    more.insert(more.end(), {"--nproc_per_node", absl::StrCat(GetParam())});
    return tiny_.Flags(output_dir, more);
  }

  const std::string folder_ = NewFolder();
  const TinyPretraining tiny_{folder_};
};

TEST_P(AsyncSaveTest, SameBits) {
  const std::vector<std::string> best = {"--eval_strategy",
                                         "steps",
                                         "--eval_steps",
                                         "2",
                                         "--load_best_model_at_end",
                                         "--save_total_limit",
                                         "2",
                                         "--validation_files",
                                         tiny_.validation_file()};
  const std::string sync = folder_ + "/sync", async = folder_ + "/async";
  const ProgramEnd waits = RunProgram(kPretrain, {.arguments = Flags(sync, best)});
  ASSERT_EQ(waits.exit_code, 0) << waits.Text();
  std::vector<std::string> flags = best;
  flags.push_back("--async_save");
  const ProgramEnd goes_on = RunProgram(kPretrain, {.arguments = Flags(async, flags)});
  ASSERT_EQ(goes_on.exit_code, 0) << goes_on.Text();
  const int num_saves = waits.Count("Saved " + sync + "/checkpoint-");
  EXPECT_GE(num_saves, 4);
  EXPECT_EQ(waits.Count("in the background"), 0);
  EXPECT_EQ(goes_on.Count("in the background"), num_saves);
  EXPECT_EQ(goes_on.Count("Saved " + async + "/checkpoint-"), num_saves);
  EXPECT_EQ(CheckpointsIn(sync), CheckpointsIn(async));
  ExpectSameOutcome(ReadRunOutcome(sync), ReadRunOutcome(async));
  ExpectNoLeftovers(async);
}

TEST_P(AsyncSaveTest, AFailureEndsTheRunAtTheNextUpdate) {
  const std::string reference = folder_ + "/reference", out = folder_ + "/out",
                    log = folder_ + "/calls";
  // The only save of a run that would go on for long: an update reports it, not the next save.
  const auto flags = [&](const std::string& output_dir, const std::string& save_steps,
                         const std::string& max_steps) {
    return Flags(output_dir, {"--async_save", "--report_to", "none", "--save_steps", save_steps,
                              "--max_steps", max_steps});
  };
  std::map<std::string, std::string> fault = {
      {"LD_PRELOAD", std::filesystem::absolute(kShim).string()},
      {"LATHE_FAULT_PATH", reference},
      {"LATHE_FAULT_LOG", log},
      {"LATHE_FAULT_ACTION", "enospc"}};
  if (GetParam() > 1) fault["LATHE_FAULT_ONLY_IF"] = "RANK=0";
  const ProgramEnd counted =
      RunProgram(kPretrain, {.arguments = flags(reference, "200", "200"), .environment = fault});
  ASSERT_EQ(counted.exit_code, 0) << counted.Text();
  int call = 0, number = 0;
  for (const std::string_view line : absl::StrSplit(ReadFile(log), '\n', absl::SkipEmpty())) {
    ++number;
    if (absl::StrContains(line, "checkpoint-200/optimizer") && call == 0) call = number;
  }
  ASSERT_GT(call, 0) << ReadFile(log);

  fault.erase("LATHE_FAULT_LOG");
  fault["LATHE_FAULT_PATH"] = out;
  fault["LATHE_FAULT_CALL"] = absl::StrCat(call);
  const ProgramEnd full =
      RunProgram(kPretrain, {.arguments = flags(out, "200", "100000"), .environment = fault});
  EXPECT_EQ(full.exit_code, 2) << full.Text();
  const std::vector<std::string> errors = full.ErrorLines();
  ASSERT_FALSE(errors.empty()) << full.Text();
  EXPECT_TRUE(absl::StrContains(errors[0], "No space left on device")) << errors[0];
  EXPECT_TRUE(absl::StrContains(errors[0], out)) << errors[0];
  EXPECT_TRUE(CheckpointsIn(out).empty());
  ExpectNoLeftovers(out);
  EXPECT_TRUE(LiveDescendants(2).empty());
}

INSTANTIATE_TEST_SUITE_P(Ranks, AsyncSaveTest, testing::Values(1, 2));

}  // namespace
}  // namespace lathe
