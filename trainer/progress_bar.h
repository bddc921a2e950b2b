#ifndef LATHE_TRAINER_PROGRESS_BAR_H_
#define LATHE_TRAINER_PROGRESS_BAR_H_

// The progress of a run on the console: a bar that redraws itself on a terminal, now and then a
// plain line elsewhere (in a file, under a pipe, in a CI).
//
//   ProgressBar bar({.total_steps = 1000});
//   SetAroundLogLine([&](bool before) { before ? bar.Hide() : bar.Show(); });
//   bar.Update({.step = 420, .loss = 3.214, .tokens_per_second = 12300, .utilization = 0.61});
//   bar.Finish();
//
//    42%|=============>                  | 420/1000 [01:23<01:55, 5.04 steps/s] loss 3.214, 12.3k
//    tokens/s, 61% of peak
//
// The rate is the mean since the first update of this run ended, which pays for all warming up; the
// remaining time is what the steps left take at that rate.
//
// All functions may be called from any thread.

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

namespace lathe {

struct ProgressBarOptions {
  int64_t total_steps = 0;
  // Steps that an earlier run has done, when resuming.
  int64_t initial_step = 0;
  // Word before the numbers, such as "Evaluating"; may be empty.
  std::string title = {};
  // Nothing is printed at all (--disable_tqdm).
  bool disabled = false;
  // Where to print; 2 is standard error, so that the bar stays out of a redirected log.
  int file_descriptor = 2;
  // nullopt: whether the descriptor is one.
  std::optional<bool> is_terminal = std::nullopt;
  // Columns; 0 asks the terminal.
  int width = 0;
  // Seconds that only go up; the process's steady clock if empty. For tests.
  std::function<double()> now = nullptr;
};

struct ProgressUpdate {
  int64_t step = 0;  // updates done, initial_step included
  std::optional<double> loss = std::nullopt;
  std::optional<double> tokens_per_second = std::nullopt;
  // Share of the measured peak, 0 to 1.
  std::optional<double> utilization = std::nullopt;
};

class ProgressBar {
 public:
  explicit ProgressBar(ProgressBarOptions options);
  // Finishes.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // Shows where the run is. Cheap: on a terminal at most ten redraws a second, elsewhere a line for
  // every twentieth of the run, or after 30 seconds, whichever comes first, and for the last step.
  // Numbers that are not given stay as they were.
  void Update(const ProgressUpdate& update);

  // Takes the bar off the terminal, and puts it back: around a line that somebody else prints.
  void Hide();
  void Show();

  // Leaves the bar as it is and ends its line. Later calls do nothing.
  void Finish();

 private:
  std::string Line(int width) const;
  void Draw();
  void Print(const std::string& text) const;
  int Width() const;

  const ProgressBarOptions options_;
  const bool is_terminal_;
  const double start_;

  std::mutex mutex_;
  ProgressUpdate shown_;
  std::optional<double> first_step_end_;
  int64_t first_step_ = 0;
  double now_ = 0;
  double last_print_ = 0;
  int64_t last_printed_step_ = 0;
  bool visible_ = false;
  bool finished_ = false;
};

namespace progress_internal {

// "01:23" or "2:03:04" or "3d 04:05:06".
std::string Clock(double seconds);

// "950", "12.3k", "4.56M".
std::string Count(double value);

}  // namespace progress_internal
}  // namespace lathe

#endif  // LATHE_TRAINER_PROGRESS_BAR_H_
