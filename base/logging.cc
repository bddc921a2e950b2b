#include "lathe/base/logging.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <mutex>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"

namespace lathe {
namespace {

struct LevelName {
  std::string_view name;
  std::string_view colour;
};

LevelName NameOf(google::LogSeverity severity, bool debug) {
  if (debug) return {"DEBUG", "\033[2m"};
  switch (severity) {
    case google::GLOG_INFO:
      return {"INFO", "\033[32m"};
    case google::GLOG_WARNING:
      return {"WARNING", "\033[33m"};
    case google::GLOG_ERROR:
      return {"ERROR", "\033[31m"};
    default:
      return {"CRITICAL", "\033[1;31m"};
  }
}

class LineSink : public google::LogSink {
 public:
  explicit LineSink(const LoggingOptions& options, bool colour)
      : file_descriptor_(options.file_descriptor),
        colour_(colour),
        suffix_(options.rank == 0 ? "" : absl::StrCat(":rank", options.rank)) {}

  void send(google::LogSeverity severity, const char* full_filename, const char* /*base_filename*/,
            int /*line*/, const google::LogMessageTime& time, const char* message,
            size_t message_length) override {
    std::string_view text(message, message_length);
    const bool debug = absl::ConsumePrefix(&text, std::string_view(&log_internal::kDebugMark, 1));
    char date[32];
    std::tm local = time.tm();
    std::strftime(date, sizeof(date), "%m/%d/%Y %H:%M:%S", &local);
    const LevelName level = NameOf(severity, debug);
    const std::string line =
        absl::StrCat(date, " - ", colour_ ? level.colour : "", level.name, colour_ ? "\033[0m" : "",
                     " - ", log_internal::LoggerName(full_filename), suffix_, " - ", text, "\n");
    std::lock_guard lock(mutex_);
    if (around_) around_(true);
    Write(line);
    if (around_) around_(false);
  }

  // The base class has a second, deprecated overload of send that the one above hides on purpose.
  using google::LogSink::send;

  void SetAround(absl::AnyInvocable<void(bool)> around) {
    std::lock_guard lock(mutex_);
    around_ = std::move(around);
  }

 private:
  // A reader that has gone away (`| head`) must not stop the run, hence errors end the line
  // silently.
  void Write(std::string_view line) {
    while (!line.empty()) {
      const ssize_t written = write(file_descriptor_, line.data(), line.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return;
      line.remove_prefix(written);
    }
  }

  const int file_descriptor_;
  const bool colour_;
  const std::string suffix_;
  std::mutex mutex_;
  absl::AnyInvocable<void(bool)> around_;
};

LineSink* g_sink = nullptr;
LogLevel g_level = LogLevel::kInfo;

LogLevel EffectiveLevel(const LoggingOptions& options) {
  const LogLevel level = options.rank == 0 ? options.level : options.level_replica;
  if (level != LogLevel::kPassive) return level;
  return options.rank == 0 ? LogLevel::kInfo : LogLevel::kWarning;
}

}  // namespace

absl::StatusOr<LogLevel> ParseLogLevel(std::string_view word) {
  if (word == "debug" || word == "detail") return LogLevel::kDebug;
  if (word == "info") return LogLevel::kInfo;
  if (word == "warning") return LogLevel::kWarning;
  if (word == "error") return LogLevel::kError;
  if (word == "critical") return LogLevel::kCritical;
  if (word == "passive") return LogLevel::kPassive;
  return absl::InvalidArgumentError(absl::StrCat(
      "log level '", word, "' is none of debug, detail, info, warning, error, critical, passive"));
}

void InitLogging(const char* program, const LoggingOptions& options) {
  CHECK(g_sink == nullptr) << "InitLogging is called once, by main";
  g_level = EffectiveLevel(options);
  const bool colour = options.colour.value_or(isatty(options.file_descriptor) &&
                                              std::getenv("NO_COLOR") == nullptr);
  // The sink is the only output: no files in /tmp, nothing twice on stderr. It lives until exit,
  // since destructors of static objects may still log.
  for (int severity = 0; severity < google::NUM_SEVERITIES; ++severity) {
    google::SetLogDestination(severity, "");
  }
  FLAGS_stderrthreshold = google::NUM_SEVERITIES;
  FLAGS_v = g_level == LogLevel::kDebug ? 1 : 0;
  switch (g_level) {
    case LogLevel::kWarning:
      FLAGS_minloglevel = google::GLOG_WARNING;
      break;
    case LogLevel::kError:
      FLAGS_minloglevel = google::GLOG_ERROR;
      break;
    case LogLevel::kCritical:
      FLAGS_minloglevel = google::GLOG_FATAL;
      break;
    default:
      FLAGS_minloglevel = google::GLOG_INFO;
  }
  google::InitGoogleLogging(program);
  g_sink = new LineSink(options, colour);
  google::AddLogSink(g_sink);
}

bool LogLevelEnabled(LogLevel level) { return level >= g_level; }

void SetAroundLogLine(absl::AnyInvocable<void(bool before)> around) {
  if (g_sink != nullptr) g_sink->SetAround(std::move(around));
}

namespace log_internal {

std::string LoggerName(std::string_view source_file) {
  const size_t slash = source_file.rfind('/');
  std::string_view folder = slash == std::string_view::npos ? "" : source_file.substr(0, slash);
  // The include prefix, or the workspace's name below a client's external/.
  for (std::string_view root : {"/lathe/", "external/lathe/"}) {
    const size_t at = folder.rfind(root);
    if (at != std::string_view::npos) folder = folder.substr(at + root.size());
  }
  absl::ConsumePrefix(&folder, "lathe/");
  absl::ConsumePrefix(&folder, "./");
  // An absolute path is not ours: a client's file, known by its folder alone.
  if (absl::StartsWith(folder, "/")) folder = folder.substr(folder.rfind('/') + 1);
  if (folder.empty()) return "lathe";
  return absl::StrCat("lathe.", absl::StrReplaceAll(folder, {{"/", "."}}));
}

}  // namespace log_internal
}  // namespace lathe
