// Schedules as pure functions: what one rank of a pipeline does in one update, in order.
//
//   const PipelinePlace place{.num_ranks = 4, .rank = 1};
//   for (const Step& step : MakeSchedule(ScheduleKind::k1F1B, place, /*num_micro_batches=*/8)) ...
//
// A model is cut into num_ranks * num_chunks stages; rank r holds the stages r, r + num_ranks, …
// (its chunks 0, 1, …). A stage's forward waits for the one before, its backward for the one after.
//
// A schedule is a list of steps, and ranks exchange between steps: what a step made leaves together
// with the arrival of what the next step needs. On one rank exchanges run in this order, beside the
// computation, which waits only for what it needs. simulator.h proves for each schedule that this
// never deadlocks, and that between two ranks sends and receives are posted in the same order, so
// that no transfer needs a tag.
//
// Sources: GPipe (Huang et al., 2019); 1F1B as PipeDream-Flush (Narayanan et al., 2021) and
// interleaved 1F1B (Narayanan et al., 2021, "Efficient large-scale language model training on GPU
// clusters using Megatron-LM", 2.2); ZB-H1 (Qi et al., 2023, "Zero bubble pipeline parallelism").
// Thread-safe.
#ifndef LATHE_PIPELINE_PARALLEL_ACTIONS_H_
#define LATHE_PIPELINE_PARALLEL_ACTIONS_H_

#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lathe {

enum class ScheduleKind {
  kGPipe,         // all forwards, then all backwards: keeps num_micro_batches in flight
  k1F1B,          // a backward as soon as there is one: at most num_ranks in flight
  kInterleaved,   // 1F1B over several chunks per rank: the bubble divided by their number
  kZeroBubbleH1,  // 1F1B whose weight gradients wait for what would be bubbles; no more in flight,
                  // but what waits holds whole inputs: recompute and sequence parallel save less
};

// "gpipe", "1f1b", "interleaved" or "zb-h1", as --pipeline_schedule has them.
// Errors: InvalidArgument for anything else.
absl::StatusOr<ScheduleKind> ParseScheduleKind(std::string_view name);
std::string_view ScheduleName(ScheduleKind kind);

struct Action {
  enum class Kind {
    kForward,
    kBackward,       // gradients of inputs and weights
    kInputGradient,  // those of inputs only; the weights' follow as kWeightGradient
    kWeightGradient,
  };
  Kind kind = Kind::kForward;
  int micro_batch = 0;
  int chunk = 0;

  friend bool operator==(const Action&, const Action&) = default;
};

using Step = std::vector<Action>;
using Schedule = std::vector<Step>;

// Where a rank is in its pipeline, and so whom its actions hear from and tell.
struct PipelinePlace {
  int num_ranks = 1;
  int rank = 0;
  int num_chunks = 1;

  int num_stages() const { return num_ranks * num_chunks; }
  int Stage(int chunk) const { return chunk * num_ranks + rank; }
  bool IsFirst(int chunk) const { return Stage(chunk) == 0; }
  bool IsLast(int chunk) const { return Stage(chunk) == num_stages() - 1; }

  // Whether the action needs what another rank sends: activations, or their gradient.
  bool Receives(const Action& action) const;
  // Whether another rank needs what it makes.
  bool Sends(const Action& action) const;
  // The ranks at the other ends.
  int Source(const Action& action) const;
  int Destination(const Action& action) const;
};

// What rank `place.rank` does for one update. Micro batches of one chunk go forward, backward and
// through their weight gradients in ascending order, so that gradients add up in the same order as
// in one process. Only an interleaved schedule may have several chunks; its micro batches may also
// be a number that does not divide by num_ranks (the end of an epoch): the rest then goes through
// after the others, all its forwards before its backwards.
Schedule MakeSchedule(ScheduleKind kind, const PipelinePlace& place, int num_micro_batches);

// The forwards alone, for evaluation.
Schedule MakeForwardSchedule(const PipelinePlace& place, int num_micro_batches);

// Whether the schedule fits the pipeline.
// Errors: InvalidArgument saying which flag to change: chunks without "interleaved" or the other
// way round, an interleaved schedule whose micro batches do not divide by the ranks.
absl::Status CheckSchedule(ScheduleKind kind, const PipelinePlace& place, int num_micro_batches);

// The most micro batches (times chunks) whose forward has begun and whose last gradient is not
// done, at any time, as this schedule runs.
int MaxInFlight(const Schedule& schedule);

}  // namespace lathe

#endif  // LATHE_PIPELINE_PARALLEL_ACTIONS_H_
