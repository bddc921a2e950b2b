#include "lathe/trainer/progress_bar.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace lathe {
namespace {

constexpr double kRedrawSeconds = 0.1;
constexpr double kLineSeconds = 30;
constexpr double kLineShare = 0.05;
constexpr int kNarrowestBar = 10;
constexpr int kWidestBar = 40;
// Back to the first column, erase to the end of the line.
constexpr std::string_view kErase = "\r\033[K";

double SteadySeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

ProgressBarOptions WithClock(ProgressBarOptions options) {
  if (!options.now) options.now = SteadySeconds;
  return options;
}

}  // namespace

ProgressBar::ProgressBar(ProgressBarOptions options)
    : options_(WithClock(std::move(options))),
      is_terminal_(options_.is_terminal.value_or(isatty(options_.file_descriptor))),
      start_(options_.now()) {
  shown_.step = options_.initial_step;
  last_printed_step_ = options_.initial_step;
  last_print_ = start_;
  now_ = start_;
  finished_ = options_.disabled;
  if (is_terminal_ && !finished_) Draw();
}

ProgressBar::~ProgressBar() { Finish(); }

void ProgressBar::Update(const ProgressUpdate& update) {
  std::lock_guard lock(mutex_);
  if (finished_) return;
  shown_.step = update.step;
  if (update.loss) shown_.loss = update.loss;
  if (update.tokens_per_second) shown_.tokens_per_second = update.tokens_per_second;
  if (update.utilization) shown_.utilization = update.utilization;
  now_ = options_.now();
  if (!first_step_end_ && update.step > options_.initial_step) {
    first_step_end_ = now_;
    first_step_ = update.step;
  }
  const bool last = update.step >= options_.total_steps;
  if (is_terminal_) {
    if (last || now_ - last_print_ >= kRedrawSeconds) Draw();
    return;
  }
  const double steps = static_cast<double>(update.step - last_printed_step_);
  if (steps > 0 && (last || now_ - last_print_ >= kLineSeconds ||
                    steps >= kLineShare * static_cast<double>(options_.total_steps))) {
    Print(Line(0) + "\n");
    last_print_ = now_;
    last_printed_step_ = update.step;
  }
}

void ProgressBar::Hide() {
  std::lock_guard lock(mutex_);
  if (finished_ || !is_terminal_ || !visible_) return;
  Print(std::string(kErase));
  visible_ = false;
}

void ProgressBar::Show() {
  std::lock_guard lock(mutex_);
  if (finished_ || !is_terminal_) return;
  Draw();
}

void ProgressBar::Finish() {
  std::lock_guard lock(mutex_);
  if (finished_) return;
  finished_ = true;
  if (is_terminal_) {
    Draw();
    Print("\n");
  }
}

void ProgressBar::Draw() {
  // One column is left free: a full line would make some terminals wrap.
  Print(absl::StrCat(kErase, Line(std::max(1, Width() - 1))));
  last_print_ = now_;
  visible_ = true;
}

// The line for a terminal of `width` columns, or, for 0, the plain one without a bar.
std::string ProgressBar::Line(int width) const {
  const int64_t total = std::max<int64_t>(options_.total_steps, 1);
  const double share = std::clamp(static_cast<double>(shown_.step) / total, 0.0, 1.0);
  const double elapsed = now_ - start_;
  std::string remaining = "?";
  std::string rate = "? steps/s";
  if (first_step_end_ && shown_.step > first_step_ && now_ > *first_step_end_) {
    const double seconds_per_step = (now_ - *first_step_end_) / (shown_.step - first_step_);
    remaining = progress_internal::Clock(std::max<int64_t>(0, options_.total_steps - shown_.step) *
                                         seconds_per_step);
    rate = seconds_per_step > 1 ? absl::StrFormat("%.2f s/step", seconds_per_step)
                                : absl::StrFormat("%.2f steps/s", 1 / seconds_per_step);
  }
  std::vector<std::string> numbers;
  if (shown_.loss) numbers.push_back(absl::StrFormat("loss %.4g", *shown_.loss));
  if (shown_.tokens_per_second) {
    numbers.push_back(
        absl::StrCat(progress_internal::Count(*shown_.tokens_per_second), " tokens/s"));
  }
  if (shown_.utilization) {
    numbers.push_back(absl::StrFormat("%.0f%% of peak", 100 * *shown_.utilization));
  }
  const std::string head =
      absl::StrFormat("%s%s%3d%%", options_.title, options_.title.empty() ? "" : " ",
                      static_cast<int>(std::floor(100 * share)));
  const std::string tail =
      absl::StrFormat(" %d/%d [%s<%s, %s]%s%s", shown_.step, options_.total_steps,
                      progress_internal::Clock(elapsed), remaining, rate,
                      numbers.empty() ? "" : " ", absl::StrJoin(numbers, ", "));
  if (width <= 0) return head + tail;
  const int room = width - static_cast<int>(head.size() + tail.size()) - 2;
  std::string line = head;
  if (room >= kNarrowestBar) {
    const int bar = std::min(room, kWidestBar);
    const int filled = static_cast<int>(std::floor(share * bar));
    std::string inside(filled, '=');
    if (filled < bar) inside += '>';
    inside.resize(bar, ' ');
    absl::StrAppend(&line, "|", inside, "|");
  }
  line += tail;
  if (static_cast<int>(line.size()) > width) line.resize(width);
  return line;
}

void ProgressBar::Print(const std::string& text) const {
  // A console that has gone away must not end the run: errors are ignored.
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t written = write(options_.file_descriptor, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    rest.remove_prefix(written);
  }
}

int ProgressBar::Width() const {
  if (options_.width > 0) return options_.width;
  winsize size;
  if (ioctl(options_.file_descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    return size.ws_col;
  }
  return 80;
}

namespace progress_internal {

std::string Clock(double seconds) {
  const int64_t whole = std::llround(std::max(0.0, seconds));
  const int64_t days = whole / 86400, hours = whole / 3600 % 24;
  const int64_t minutes = whole / 60 % 60, rest = whole % 60;
  if (days > 0) return absl::StrFormat("%dd %02d:%02d:%02d", days, hours, minutes, rest);
  if (hours > 0) return absl::StrFormat("%d:%02d:%02d", hours, minutes, rest);
  return absl::StrFormat("%02d:%02d", minutes, rest);
}

std::string Count(double value) {
  if (value < 999.5) return absl::StrFormat("%.0f", value);
  for (std::string_view unit : {"k", "M", "G"}) {
    value /= 1000;
    if (value < 9.995) return absl::StrFormat("%.2f%s", value, unit);
    if (value < 99.95) return absl::StrFormat("%.1f%s", value, unit);
    if (value < 999.5) return absl::StrFormat("%.0f%s", value, unit);
  }
  return absl::StrFormat("%.0fG", value);
}

}  // namespace progress_internal
}  // namespace lathe
