#include "lathe/pipeline_parallel/actions.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace lathe {
namespace {

using Kind = Action::Kind;

constexpr std::pair<ScheduleKind, std::string_view> kNames[] = {
    {ScheduleKind::kGPipe, "gpipe"},
    {ScheduleKind::k1F1B, "1f1b"},
    {ScheduleKind::kInterleaved, "interleaved"},
    {ScheduleKind::kZeroBubbleH1, "zb-h1"},
};

// The k-th action of one direction over all chunks: num_ranks micro batches through chunk 0, the
// same through chunk 1, …, then the next num_ranks (or as many as are left). Backward goes through
// the chunks from the last.
Action InGroups(Kind kind, const PipelinePlace& place, int num_micro_batches, int k) {
  const int per_group = place.num_ranks * place.num_chunks;
  const int first = k / per_group * place.num_ranks;
  const int size = std::min(place.num_ranks, num_micro_batches - first);
  const int within = k % per_group;
  const int chunk = within / size;
  return {kind, first + within % size,
          kind == Kind::kForward ? chunk : place.num_chunks - 1 - chunk};
}

// `warmup` forwards, then a forward and a backward in turn, then the backwards that are left.
// `paired`: such a turn is one step.
Schedule OneForwardOneBackward(const PipelinePlace& place, int num_micro_batches, int warmup,
                               bool paired) {
  const int total = num_micro_batches * place.num_chunks;
  warmup = std::min(warmup, total);
  const auto forward = [&](int k) { return InGroups(Kind::kForward, place, num_micro_batches, k); };
  const auto backward = [&](int k) {
    return InGroups(Kind::kBackward, place, num_micro_batches, k);
  };
  Schedule schedule;
  for (int k = 0; k < warmup; ++k) schedule.push_back({forward(k)});
  for (int k = 0; k < total - warmup; ++k) {
    schedule.push_back({forward(warmup + k)});
    if (paired) {
      schedule.back().push_back(backward(k));
    } else {
      schedule.push_back({backward(k)});
    }
  }
  for (int k = total - warmup; k < total; ++k) schedule.push_back({backward(k)});
  return schedule;
}

// Rank r delays its weight gradients by r micro batches, so that with its num_ranks − r activations
// in flight it keeps as much as the first rank of 1F1B. When no forwards are left, weight gradients
// fill the time in which it waits for the ranks behind.
// Interleaving goes by groups of num_ranks micro batches. A rest of fewer, at the end of an epoch,
// goes through after them, all forwards first: at most (num_ranks − 1) · num_chunks in flight.
Schedule Interleaved(const PipelinePlace& place, int num_micro_batches) {
  const int rest = num_micro_batches % place.num_ranks, whole = num_micro_batches - rest;
  const int ahead =
      2 * (place.num_ranks - 1 - place.rank) + (place.num_chunks - 1) * place.num_ranks;
  Schedule schedule = OneForwardOneBackward(place, whole, ahead, /*paired=*/true);
  for (Step& step : OneForwardOneBackward(place, rest, rest * place.num_chunks, /*paired=*/true)) {
    for (Action& action : step) action.micro_batch += whole;
    schedule.push_back(std::move(step));
  }
  return schedule;
}

Schedule ZeroBubbleH1(const PipelinePlace& place, int num_micro_batches) {
  const int warmup = std::min(num_micro_batches, place.num_ranks - 1 - place.rank);
  Schedule schedule;
  int weight_gradients = 0;
  for (int i = 0; i < warmup; ++i) schedule.push_back({{Kind::kForward, i}});
  for (int i = 0; i < num_micro_batches; ++i) {
    if (warmup + i < num_micro_batches) schedule.push_back({{Kind::kForward, warmup + i}});
    schedule.push_back({{Kind::kInputGradient, i}});
    if (i >= place.rank) schedule.push_back({{Kind::kWeightGradient, weight_gradients++}});
  }
  while (weight_gradients < num_micro_batches) {
    schedule.push_back({{Kind::kWeightGradient, weight_gradients++}});
  }
  return schedule;
}

}  // namespace

absl::StatusOr<ScheduleKind> ParseScheduleKind(std::string_view name) {
  for (const auto& [kind, text] : kNames) {
    if (text == name) return kind;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--pipeline_schedule ", name, " is not known; there are gpipe, 1f1b, interleaved and zb-h1"));
}

std::string_view ScheduleName(ScheduleKind kind) {
  for (const auto& [known, text] : kNames) {
    if (known == kind) return text;
  }
  return "";
}

bool PipelinePlace::Receives(const Action& action) const {
  switch (action.kind) {
    case Kind::kForward:
      return !IsFirst(action.chunk);
    case Kind::kBackward:
    case Kind::kInputGradient:
      return !IsLast(action.chunk);
    case Kind::kWeightGradient:
      return false;
  }
  return false;
}

bool PipelinePlace::Sends(const Action& action) const {
  switch (action.kind) {
    case Kind::kForward:
      return !IsLast(action.chunk);
    case Kind::kBackward:
    case Kind::kInputGradient:
      return !IsFirst(action.chunk);
    case Kind::kWeightGradient:
      return false;
  }
  return false;
}

int PipelinePlace::Source(const Action& action) const {
  const int step = action.kind == Kind::kForward ? num_ranks - 1 : 1;
  return (rank + step) % num_ranks;
}

int PipelinePlace::Destination(const Action& action) const {
  const int step = action.kind == Kind::kForward ? 1 : num_ranks - 1;
  return (rank + step) % num_ranks;
}

Schedule MakeSchedule(ScheduleKind kind, const PipelinePlace& place, int num_micro_batches) {
  const int all = num_micro_batches * place.num_chunks;
  const int ranks_behind = place.num_ranks - 1 - place.rank;
  switch (kind) {
    case ScheduleKind::kGPipe:
      return OneForwardOneBackward(place, num_micro_batches, all, /*paired=*/false);
    case ScheduleKind::k1F1B:
      return OneForwardOneBackward(place, num_micro_batches, ranks_behind, /*paired=*/false);
    case ScheduleKind::kInterleaved:
      return Interleaved(place, num_micro_batches);
    case ScheduleKind::kZeroBubbleH1:
      return ZeroBubbleH1(place, num_micro_batches);
  }
  return {};
}

Schedule MakeForwardSchedule(const PipelinePlace& place, int num_micro_batches) {
  Schedule schedule;
  for (int k = 0; k < num_micro_batches * place.num_chunks; ++k) {
    schedule.push_back({InGroups(Kind::kForward, place, num_micro_batches, k)});
  }
  return schedule;
}

absl::Status CheckSchedule(ScheduleKind kind, const PipelinePlace& place, int num_micro_batches) {
  if (kind != ScheduleKind::kInterleaved) {
    if (place.num_chunks == 1) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        "--pipeline_schedule ", ScheduleName(kind), " has one stage per rank, not ",
        place.num_chunks,
        "; choose interleaved, or fewer stages (--num_layers_per_virtual_pipeline_stage, the "
        "pattern of --pipeline_model_parallel_layout)"));
  }
  if (place.num_ranks == 1) {
    return absl::InvalidArgumentError(
        "--pipeline_schedule interleaved needs ranks to interleave; raise "
        "--pipeline_model_parallel_size or choose 1f1b");
  }
  if (place.num_chunks == 1) {
    return absl::InvalidArgumentError(
        "--pipeline_schedule interleaved needs more than one stage per rank; give "
        "--num_layers_per_virtual_pipeline_stage or a longer pattern of "
        "--pipeline_model_parallel_layout, or choose 1f1b");
  }
  if (num_micro_batches % place.num_ranks != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--gradient_accumulation_steps ", num_micro_batches,
        " does not divide by --pipeline_model_parallel_size ", place.num_ranks,
        ", as several stages per rank need, which are interleaved; change one of them, or have one "
        "stage per rank"));
  }
  return absl::OkStatus();
}

int MaxInFlight(const Schedule& schedule) {
  int in_flight = 0, most = 0;
  bool splits = false;
  for (const Step& step : schedule) {
    for (const Action& action : step) splits |= action.kind == Kind::kWeightGradient;
  }
  for (const Step& step : schedule) {
    for (const Action& action : step) {
      if (action.kind == Kind::kForward) most = std::max(most, ++in_flight);
      if (action.kind == (splits ? Kind::kWeightGradient : Kind::kBackward)) --in_flight;
    }
  }
  return most;
}

}  // namespace lathe
