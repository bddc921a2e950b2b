// Runs schedules on paper: when each action of each rank would begin and end if every kind of
// action took a given time and transfers took none, exchanging exactly as ForwardBackward does. It
// proves that a schedule finishes, shows it, and gives its bubble.
//
//   absl::StatusOr<Timeline> timeline = Simulate(schedules, /*num_chunks=*/1, {});
//   std::cout << timeline->Picture();       // F0 F1 F2 F3 .. B0 B0 …, one line per rank
//   timeline->BubbleFraction();             // 3 / 11 for 8 micro batches of 1F1B
//
// Thread-safe.
#ifndef LATHE_PIPELINE_PARALLEL_SIMULATOR_H_
#define LATHE_PIPELINE_PARALLEL_SIMULATOR_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "lathe/pipeline_parallel/actions.h"

namespace lathe {

// Whole units of time, so that a picture has a cell for each. A backward takes both gradients'
// time.
struct ActionCosts {
  int forward = 1;
  int input_gradient = 1;
  int weight_gradient = 1;
};

struct TimedAction {
  Action action;
  int begin = 0, end = 0;
};

struct Timeline {
  std::vector<std::vector<TimedAction>> ranks;

  // From the first action's begin to the last one's end.
  int Span() const;
  // The part of all ranks' time in which they do nothing.
  double BubbleFraction() const;
  // One line per rank, one cell per unit of time: F forward, B backward, I and W input and weight
  // gradient, with the micro batch's number; chunks are told apart by 'a', 'b', … where there are
  // several.
  std::string Picture() const;
};

// `schedules`: one per rank.
// Errors: FailedPrecondition with rank and step if ranks wait for each other in a circle, or if two
// ranks post their transfers in different orders.
absl::StatusOr<Timeline> Simulate(const std::vector<Schedule>& schedules, int num_chunks,
                                  const ActionCosts& costs);

}  // namespace lathe

#endif  // LATHE_PIPELINE_PARALLEL_SIMULATOR_H_
