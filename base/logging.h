#ifndef LATHE_BASE_LOGGING_H_
#define LATHE_BASE_LOGGING_H_

// The project's only way to log: glog's LOG, VLOG and CHECK, printed in the format that Hugging
// Face's training scripts use. Files that also see LibTorch include this header for logging, never
// glog's.
//
//   LOG(INFO) << "Initializing Trainer";
//     11/24/2026 17:00:00 - INFO - lathe.trainer - Initializing Trainer
//   LOG(WARNING), LOG(ERROR); LATHE_LOG_DEBUG << "shown by --log_level debug only";
//   CHECK(x) << "a programmer's error: prints, then aborts";
//
// The name is "lathe." and the folder of the logging file. A message that goes on (a model's
// configuration, say) may have several lines; the first alone carries the prefix.
//
// Libraries and tests only log. InitLogging is for main functions: process-wide, once, before any
// other thread runs. Without it glog's own default (its format, on stderr) applies, which is what
// tests see. Logging itself may be done from any thread; a line is written whole.

#include <glog/logging.h>

#include <optional>
#include <string>
#include <string_view>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"

namespace lathe {

// Python's levels, which are Hugging Face's. kPassive means: not chosen by the user.
enum class LogLevel { kDebug, kInfo, kWarning, kError, kCritical, kPassive };

// "debug", "detail" (as debug), "info", "warning", "error", "critical" or "passive".
// Errors: InvalidArgument for any other word.
absl::StatusOr<LogLevel> ParseLogLevel(std::string_view word);

struct LoggingOptions {
  // For rank 0; kPassive shows kInfo.
  LogLevel level = LogLevel::kPassive;
  // For the other ranks; kPassive shows kWarning.
  LogLevel level_replica = LogLevel::kWarning;
  // This process's rank. Lines of ranks above 0 have ":rankN" behind their name.
  int rank = 0;
  // 1 is standard output, where Hugging Face's scripts log; 2 is standard error.
  int file_descriptor = 1;
  // Level names in colour; nullopt: when the descriptor is a terminal and NO_COLOR is not set.
  std::optional<bool> colour = std::nullopt;
};

// Routes all logging of this process as `options` says. `program` is argv[0].
void InitLogging(const char* program, const LoggingOptions& options);

// True when a message of this level would be printed: to skip the work of making one.
bool LogLevelEnabled(LogLevel level);

// `around` is called with true before a line is written and with false after it, under the logger's
// lock: so that a progress bar can step aside. It must not log. Pass nullptr to end it.
// Process-wide; only for mains and what they own.
void SetAroundLogLine(absl::AnyInvocable<void(bool before)> around);

namespace log_internal {

// "lathe.datasets.tokenizers" for ".../lathe/datasets/tokenizers/bpe.cc" or
// "datasets/tokenizers/bpe.cc".
std::string LoggerName(std::string_view source_file);

// Marks a message for the sink; no reader sees it.
inline constexpr char kDebugMark = '\x01';

}  // namespace log_internal
}  // namespace lathe

// VLOG(1) that prints DEBUG as its level.
#define LATHE_LOG_DEBUG VLOG(1) << ::lathe::log_internal::kDebugMark

#endif  // LATHE_BASE_LOGGING_H_
