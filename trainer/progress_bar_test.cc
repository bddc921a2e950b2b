#include "lathe/trainer/progress_bar.h"

#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// A bar whose output and clock the test holds.
class ProgressBarTest : public ::testing::Test {
 protected:
  ProgressBarTest() { EXPECT_EQ(pipe(ends_), 0); }
  ~ProgressBarTest() override {
    close(ends_[0]);
    close(ends_[1]);
  }

  ProgressBarOptions Options(bool is_terminal, int64_t total_steps) {
    ProgressBarOptions options;
    options.total_steps = total_steps;
    options.file_descriptor = ends_[1];
    options.is_terminal = is_terminal;
    options.width = 100;
    options.now = [this] { return seconds_; };
    return options;
  }

  // What has been printed since the last call.
  std::string Output() {
    // A byte that nobody prints marks the end, so that reading an empty pipe does not block.
    EXPECT_EQ(write(ends_[1], "\0", 1), 1);
    std::string output;
    char byte;
    while (read(ends_[0], &byte, 1) == 1 && byte != '\0') output += byte;
    return output;
  }

  int ends_[2];
  double seconds_ = 1000;
};

TEST_F(ProgressBarTest, ABarOnATerminal) {
  ProgressBar bar(Options(true, 100));
  EXPECT_EQ(Output(),
            "\r\033[K  0%|>                                       | 0/100 [00:00<?, ? steps/s]");
  seconds_ += 5;  // the first step is slow and does not count for the rate
  bar.Update({.step = 1});
  EXPECT_THAT(Output(), HasSubstr(" 1/100 [00:05<?, ? steps/s]"));
  seconds_ += 10;
  bar.Update({.step = 21, .loss = 3.21449, .tokens_per_second = 12345, .utilization = 0.614});
  EXPECT_EQ(Output(),
            "\r\033[K 21%|===>              | 21/100 [00:15<00:40, 2.00 steps/s] loss 3.214, 12.3k "
            "tokens/s, 61% of peak");
  // What an update leaves out stays.
  seconds_ += 80;
  bar.Update({.step = 22});
  EXPECT_THAT(Output(), HasSubstr("22/100 [01:35<05:34, 4.29 s/step] loss 3.214, 12.3k tokens/s"));
  bar.Finish();
  EXPECT_THAT(Output(), testing::EndsWith("of peak\n"));
  bar.Update({.step = 23});
  bar.Finish();
  EXPECT_EQ(Output(), "");
}

TEST_F(ProgressBarTest, RedrawsAtMostTenTimesASecond) {
  ProgressBar bar(Options(true, 1000));
  Output();
  int draws = 0;
  for (int step = 1; step <= 500; ++step) {
    seconds_ += 0.01;
    bar.Update({.step = step});
    if (!Output().empty()) ++draws;
  }
  EXPECT_GE(draws, 40);
  EXPECT_LE(draws, 51);
  bar.Update({.step = 1000});  // the last step is shown at once
  EXPECT_THAT(Output(), HasSubstr("1000/1000"));
}

TEST_F(ProgressBarTest, NeverWiderThanTheTerminal) {
  for (int width : {1, 5, 20, 40, 60, 80, 200}) {
    ProgressBarOptions options = Options(true, 100);
    options.width = width;
    options.title = "Evaluating";
    ProgressBar bar(options);
    seconds_ += 1;
    bar.Update({.step = 50, .loss = 3.2, .tokens_per_second = 1e6, .utilization = 1});
    for (std::string_view draw : absl::StrSplit(Output(), "\r\033[K")) {
      EXPECT_LT(static_cast<int>(draw.size()), std::max(width, 2)) << draw;
    }
    bar.Finish();
    Output();
  }
}

TEST_F(ProgressBarTest, HidesAroundOtherLines) {
  ProgressBar bar(Options(true, 100));
  Output();
  bar.Hide();
  EXPECT_EQ(Output(), "\r\033[K");
  bar.Hide();
  EXPECT_EQ(Output(), "");
  bar.Show();
  EXPECT_THAT(Output(), HasSubstr("0/100"));
}

TEST_F(ProgressBarTest, PlainLinesElsewhere) {
  ProgressBar bar(Options(false, 100));
  EXPECT_EQ(Output(), "");
  std::vector<std::string> lines;
  for (int step = 1; step <= 100; ++step) {
    seconds_ += 0.5;
    bar.Update({.step = step, .loss = 2.0});
    const std::string output = Output();
    if (!output.empty()) lines.push_back(output);
  }
  ASSERT_EQ(lines.size(), 20u);
  EXPECT_EQ(lines[0], "  5% 5/100 [00:03<00:48, 2.00 steps/s] loss 2\n");
  EXPECT_EQ(lines[19], "100% 100/100 [00:50<00:00, 2.00 steps/s] loss 2\n");
  bar.Hide();
  bar.Show();
  bar.Finish();
  EXPECT_EQ(Output(), "");
}

TEST_F(ProgressBarTest, PlainLinesOfSlowRunsComeEveryHalfMinute) {
  ProgressBar bar(Options(false, 100000));
  int lines = 0;
  for (int step = 1; step <= 30; ++step) {
    seconds_ += 10;
    bar.Update({.step = step});
    if (!Output().empty()) ++lines;
  }
  EXPECT_EQ(lines, 10);
}

TEST_F(ProgressBarTest, AResumedRunCountsItsOwnSteps) {
  ProgressBarOptions options = Options(false, 100);
  options.initial_step = 90;
  ProgressBar bar(options);
  seconds_ += 100;
  bar.Update({.step = 91});
  EXPECT_EQ(Output(), " 91% 91/100 [01:40<?, ? steps/s]\n");
  seconds_ += 5;
  bar.Update({.step = 96});
  EXPECT_EQ(Output(), " 96% 96/100 [01:45<00:04, 1.00 steps/s]\n");
}

TEST_F(ProgressBarTest, DisabledPrintsNothing) {
  for (bool is_terminal : {true, false}) {
    ProgressBarOptions options = Options(is_terminal, 2);
    options.disabled = true;
    ProgressBar bar(options);
    bar.Update({.step = 1});
    bar.Update({.step = 2});
    bar.Finish();
  }
  EXPECT_EQ(Output(), "");
}

TEST(ProgressTextTest, Clock) {
  EXPECT_EQ(progress_internal::Clock(-1), "00:00");
  EXPECT_EQ(progress_internal::Clock(59.4), "00:59");
  EXPECT_EQ(progress_internal::Clock(59.6), "01:00");
  EXPECT_EQ(progress_internal::Clock(3599), "59:59");
  EXPECT_EQ(progress_internal::Clock(7384), "2:03:04");
  EXPECT_EQ(progress_internal::Clock(3 * 86400 + 4 * 3600 + 5 * 60 + 6), "3d 04:05:06");
}

TEST(ProgressTextTest, Count) {
  EXPECT_EQ(progress_internal::Count(0), "0");
  EXPECT_EQ(progress_internal::Count(999.4), "999");
  EXPECT_EQ(progress_internal::Count(999.6), "1.00k");
  EXPECT_EQ(progress_internal::Count(12345), "12.3k");
  EXPECT_EQ(progress_internal::Count(99960), "100k");
  EXPECT_EQ(progress_internal::Count(999600), "1.00M");
  EXPECT_EQ(progress_internal::Count(4.56e6), "4.56M");
  EXPECT_EQ(progress_internal::Count(7e12), "7000G");
}

}  // namespace
}  // namespace lathe
