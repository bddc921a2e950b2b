#include "lathe/tests/bad_input/refusal.h"

#include <cstdint>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

constexpr double kMostSeconds = 10;
constexpr int64_t kMostBytes = 1'000'000'000;

// Nothing but the lock, which is Lathe's own and stays. What else there is goes, so that the next
// case starts afresh.
void ExpectNothingWritten(const std::string& output_dir) {
  std::error_code no_folder;
  std::string names;
  for (const auto& entry : std::filesystem::directory_iterator(output_dir, no_folder)) {
    if (entry.path().filename() != ".lathe.lock")
      absl::StrAppend(&names, " ", entry.path().filename().string());
  }
  EXPECT_EQ(names, "") << "was left in " << output_dir;
  std::filesystem::remove_all(output_dir, no_folder);
}

}  // namespace

void ExpectRefusal(const ProgramEnd& end, const std::vector<std::string>& words,
                   const std::string& output_dir, int num_ranks) {
  EXPECT_EQ(end.exit_code, 2) << end.Text();
  EXPECT_EQ(end.signal, 0);
  EXPECT_LT(end.seconds, kMostSeconds) << end.Text();
  EXPECT_LT(end.peak_bytes, kMostBytes);
  EXPECT_TRUE(LiveDescendants().empty());
  const std::vector<std::string> errors = end.ErrorLines();
  EXPECT_GE(errors.size(), 1u) << end.Text();
  EXPECT_LE(errors.size(), static_cast<size_t>(num_ranks)) << end.Text();
  for (const std::string& error : errors) {
    // A rank that only lost its peer may say that instead.
    if (num_ranks > 1 && absl::StrContains(error, " in group '")) continue;
    for (const std::string& word : words) {
      EXPECT_TRUE(absl::StrContains(error, word)) << word << " is not in: " << error;
    }
    EXPECT_LT(error.size(), 1000u) << error;
  }
  // Nothing comes after it, so that a terminal's last line says what is wrong.
  if (num_ranks == 1 && !errors.empty()) {
    EXPECT_TRUE(absl::EndsWith(end.err, absl::StrCat(errors.back(), "\n"))) << end.Text();
  }
  if (!output_dir.empty()) ExpectNothingWritten(output_dir);
}

}  // namespace lathe
