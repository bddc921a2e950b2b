#include "lathe/base/logging.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

// What a process that calls InitLogging(options) and then `body` writes to options.file_descriptor
// and to standard error. A process of its own each time, since InitLogging is once per process.
std::string OutputOf(LoggingOptions options, const std::function<void()>& body) {
  int ends[2];
  if (pipe(ends) != 0) return "no pipe";
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    dup2(ends[1], 2);
    options.file_descriptor = ends[1];
    InitLogging("logging_test", options);
    body();
    _exit(0);
  }
  close(ends[1]);
  std::string output;
  char buffer[4096];
  ssize_t count;
  while ((count = read(ends[0], buffer, sizeof(buffer))) > 0) output.append(buffer, count);
  close(ends[0]);
  int status;
  waitpid(child, &status, 0);
  return output;
}

void LogOneOfEach() {
  LATHE_LOG_DEBUG << "dee";
  LOG(INFO) << "in " << 3;
  LOG(WARNING) << "war";
  LOG(ERROR) << "err";
}

TEST(LoggingTest, WritesTheSeedsFormat) {
  const std::string output = OutputOf({}, [] { LOG(INFO) << "text"; });
  EXPECT_THAT(output, MatchesRegex("[0-9][0-9]/[0-9][0-9]/20[0-9][0-9] "
                                   "[0-9][0-9]:[0-9][0-9]:[0-9][0-9] - INFO - lathe.base - "
                                   "text\n"));
}

std::string LevelsShown(const LoggingOptions& options) {
  std::string levels;
  for (std::string_view line : absl::StrSplit(OutputOf(options, LogOneOfEach), '\n')) {
    std::vector<std::string_view> parts = absl::StrSplit(line, " - ");
    if (parts.size() == 4) levels += std::string(parts[1]) + ":" + std::string(parts[3]) + " ";
  }
  return levels;
}

TEST(LoggingTest, LevelsOfRankZero) {
  EXPECT_EQ(LevelsShown({}), "INFO:in 3 WARNING:war ERROR:err ");
  EXPECT_EQ(LevelsShown({.level = LogLevel::kDebug}), "DEBUG:dee INFO:in 3 WARNING:war ERROR:err ");
  EXPECT_EQ(LevelsShown({.level = LogLevel::kInfo}), "INFO:in 3 WARNING:war ERROR:err ");
  EXPECT_EQ(LevelsShown({.level = LogLevel::kWarning}), "WARNING:war ERROR:err ");
  EXPECT_EQ(LevelsShown({.level = LogLevel::kError}), "ERROR:err ");
  EXPECT_EQ(LevelsShown({.level = LogLevel::kCritical}), "");
}

TEST(LoggingTest, OtherRanksFollowLogLevelReplica) {
  EXPECT_EQ(LevelsShown({.level = LogLevel::kDebug, .rank = 2}), "WARNING:war ERROR:err ");
  EXPECT_EQ(LevelsShown({.level_replica = LogLevel::kInfo, .rank = 2}),
            "INFO:in 3 WARNING:war ERROR:err ");
  EXPECT_EQ(LevelsShown({.level_replica = LogLevel::kPassive, .rank = 2}),
            "WARNING:war ERROR:err ");
  EXPECT_THAT(OutputOf({.rank = 2}, [] { LOG(WARNING) << "x"; }),
              HasSubstr(" - WARNING - lathe.base:rank2 - x\n"));
}

TEST(LoggingTest, ColourOnlyWhenAsked) {
  EXPECT_THAT(OutputOf({}, LogOneOfEach), testing::Not(HasSubstr("\033")));
  EXPECT_THAT(OutputOf({.colour = true}, LogOneOfEach),
              HasSubstr(" - \033[33mWARNING\033[0m - lathe.base - war"));
}

TEST(LoggingTest, NothingIsWrittenTwiceToStandardError) {
  EXPECT_THAT(OutputOf({}, [] { LOG(ERROR) << "once"; }),
              MatchesRegex("[^\n]* - ERROR - lathe.base - once\n"));
}

TEST(LoggingTest, ACheckThatFailsIsCritical) {
  EXPECT_THAT(OutputOf({}, [] { CHECK_EQ(1, 2) << "numbers"; }),
              HasSubstr(" - CRITICAL - lathe.base - Check failed: 1 == 2 (1 vs. 2) numbers"));
}

TEST(LoggingTest, LinesOfThreadsStayWhole) {
  const std::string text(1000, 'x');
  const std::string output = OutputOf({}, [&] {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 50; ++i) LOG(INFO) << text;
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  int lines = 0;
  for (std::string_view line : absl::StrSplit(output, '\n', absl::SkipEmpty())) {
    ++lines;
    EXPECT_TRUE(line.ends_with("lathe.base - " + text)) << line;
  }
  EXPECT_EQ(lines, 200);
}

TEST(LoggingTest, AroundLogLineIsCalledBeforeAndAfter) {
  const std::string output = OutputOf({}, [] {
    static std::string calls;
    SetAroundLogLine([](bool before) { calls += before ? "(" : ")"; });
    LOG(INFO) << "a";
    LOG(INFO) << "b";
    SetAroundLogLine(nullptr);
    LOG(INFO) << "calls" << calls;
  });
  EXPECT_THAT(output, HasSubstr("calls()()\n"));
}

TEST(LoggingTest, LogLevelEnabledSaysWhatWouldBePrinted) {
  EXPECT_THAT(OutputOf({.level = LogLevel::kWarning},
                       [] {
                         LOG(ERROR) << LogLevelEnabled(LogLevel::kInfo)
                                    << LogLevelEnabled(LogLevel::kWarning);
                       }),
              HasSubstr(" - 01\n"));
}

TEST(LoggingTest, ParseLogLevel) {
  EXPECT_EQ(*ParseLogLevel("debug"), LogLevel::kDebug);
  EXPECT_EQ(*ParseLogLevel("detail"), LogLevel::kDebug);
  EXPECT_EQ(*ParseLogLevel("critical"), LogLevel::kCritical);
  EXPECT_EQ(*ParseLogLevel("passive"), LogLevel::kPassive);
  EXPECT_EQ(ParseLogLevel("loud").status().message(),
            "log level 'loud' is none of debug, detail, info, warning, error, critical, passive");
  EXPECT_FALSE(ParseLogLevel("").ok());
}

TEST(LoggingTest, LoggerNameIsTheFolder) {
  using log_internal::LoggerName;
  EXPECT_EQ(LoggerName("trainer/trainer.cc"), "lathe.trainer");
  EXPECT_EQ(LoggerName("./trainer/trainer.cc"), "lathe.trainer");
  EXPECT_EQ(LoggerName("datasets/tokenizers/bpe.cc"), "lathe.datasets.tokenizers");
  EXPECT_EQ(LoggerName("bazel-out/k8-opt/bin/base/_virtual_includes/box/lathe/base/box.h"),
            "lathe.base");
  EXPECT_EQ(LoggerName("external/lathe/peft/lora/inject.cc"), "lathe.peft.lora");
  EXPECT_EQ(LoggerName("lathe/peft/merge.h"), "lathe.peft");
  EXPECT_EQ(LoggerName("/home/somebody/project/app.cc"), "lathe.project");
  EXPECT_EQ(LoggerName("main.cc"), "lathe");
}

}  // namespace
}  // namespace lathe
