#include "lathe/pipeline_parallel/simulator.h"

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lathe {
namespace {

using Kind = Action::Kind;

int Cost(const Action& action, const ActionCosts& costs) {
  switch (action.kind) {
    case Kind::kForward:
      return costs.forward;
    case Kind::kBackward:
      return costs.input_gradient + costs.weight_gradient;
    case Kind::kInputGradient:
      return costs.input_gradient;
    case Kind::kWeightGradient:
      return costs.weight_gradient;
  }
  return 0;
}

// What travels: activations (true) or gradients of a micro batch, and the stage that made it.
using Parcel = std::tuple<bool, int, int>;

struct Posted {
  Parcel parcel;
  int time;
};

// From one rank to another, in posting order.
struct Link {
  std::vector<Posted> sends, receives;
};

class Simulation {
 public:
  Simulation(const std::vector<Schedule>& schedules, int num_chunks, const ActionCosts& costs)
      : schedules_(schedules), costs_(costs), ranks_(schedules.size()) {
    const int num_ranks = static_cast<int>(schedules.size());
    for (int rank = 0; rank < num_ranks; ++rank) {
      ranks_[rank].place = {num_ranks, rank, num_chunks};
    }
    timeline_.ranks.resize(num_ranks);
  }

  absl::StatusOr<Timeline> Run() {
    bool moved = true;
    while (moved) {
      moved = false;
      for (size_t rank = 0; rank < ranks_.size(); ++rank) {
        while (Compute(rank) || Exchange(rank)) moved = true;
        if (!error_.ok()) return error_;
      }
    }
    for (size_t rank = 0; rank < ranks_.size(); ++rank) {
      if (ranks_[rank].exchanged <= schedules_[rank].size()) {
        return absl::FailedPreconditionError(absl::StrCat(
            "the ranks wait for each other: rank ", rank, " of ", ranks_.size(),
            " before its step ", ranks_[rank].exchanged, " of ", schedules_[rank].size()));
      }
    }
    return std::move(timeline_);
  }

 private:
  struct Transfer {
    Link* link;
    size_t index;
    bool is_send;
  };
  struct Rank {
    PipelinePlace place;
    std::vector<int> step_ends = {0};  // of the steps computed so far, after the start at 0
    size_t exchanged = 0;              // exchanges; number i brings what step i needs
    int exchanged_at = 0;
    std::optional<int> posted;        // when the next exchange was
    std::vector<Transfer> transfers;  // in it

    size_t computed() const { return step_ends.size() - 1; }
  };

  // The next step, if what it needs is there.
  bool Compute(size_t r) {
    Rank& rank = ranks_[r];
    const Schedule& schedule = schedules_[r];
    if (rank.computed() == schedule.size()) return false;
    const Step& step = schedule[rank.computed()];
    const bool receives = std::any_of(step.begin(), step.end(),
                                      [&](const Action& a) { return rank.place.Receives(a); });
    if (receives && rank.exchanged <= rank.computed()) return false;
    int now = rank.step_ends.back();
    if (receives) now = std::max(now, rank.exchanged_at);
    for (const Action& action : step) {
      const int end = now + Cost(action, costs_);
      timeline_.ranks[r].push_back({action, now, end});
      now = end;
    }
    rank.step_ends.push_back(now);
    return true;
  }

  // Posts the next exchange if the step before it is done; completes it if all others have posted
  // theirs.
  bool Exchange(size_t r) {
    Rank& rank = ranks_[r];
    const Schedule& schedule = schedules_[r];
    if (rank.exchanged > schedule.size() || rank.exchanged > rank.computed()) return false;
    bool moved = false;
    if (!rank.posted) {
      rank.posted = std::max(rank.exchanged_at, rank.step_ends[rank.exchanged]);
      Post(rank, schedule);
      moved = true;
    }
    int now = *rank.posted;
    for (const Transfer& transfer : rank.transfers) {
      const std::vector<Posted>& others =
          transfer.is_send ? transfer.link->receives : transfer.link->sends;
      if (others.size() <= transfer.index) return moved;
      const std::vector<Posted>& mine =
          transfer.is_send ? transfer.link->sends : transfer.link->receives;
      if (others[transfer.index].parcel != mine[transfer.index].parcel) {
        error_ = absl::FailedPreconditionError(absl::StrCat(
            "rank ", r, " and a neighbour post their transfers in different orders, before step ",
            rank.exchanged));
        return false;
      }
      now = std::max(now, others[transfer.index].time);
    }
    rank.exchanged_at = now;
    ++rank.exchanged;
    rank.posted.reset();
    return true;
  }

  void Post(Rank& rank, const Schedule& schedule) {
    rank.transfers.clear();
    const auto parcel = [](const Action& a, int stage) {
      return Parcel(a.kind == Kind::kForward, a.micro_batch, stage);
    };
    const int me = rank.place.rank;
    if (rank.exchanged > 0) {
      for (const Action& a : schedule[rank.exchanged - 1]) {
        if (!rank.place.Sends(a)) continue;
        Link& link = links_[{me, rank.place.Destination(a)}];
        rank.transfers.push_back({&link, link.sends.size(), true});
        link.sends.push_back({parcel(a, rank.place.Stage(a.chunk)), *rank.posted});
      }
    }
    if (rank.exchanged == schedule.size()) return;
    for (const Action& a : schedule[rank.exchanged]) {
      if (!rank.place.Receives(a)) continue;
      Link& link = links_[{rank.place.Source(a), me}];
      rank.transfers.push_back({&link, link.receives.size(), false});
      const int maker = rank.place.Stage(a.chunk) + (a.kind == Kind::kForward ? -1 : 1);
      link.receives.push_back({parcel(a, maker), *rank.posted});
    }
  }

  const std::vector<Schedule>& schedules_;
  const ActionCosts costs_;
  std::vector<Rank> ranks_;
  std::map<std::pair<int, int>, Link> links_;
  Timeline timeline_;
  absl::Status error_;
};

}  // namespace

int Timeline::Span() const {
  int end = 0;
  for (const auto& rank : ranks) {
    if (!rank.empty()) end = std::max(end, rank.back().end);
  }
  return end;
}

double Timeline::BubbleFraction() const {
  double busy = 0;
  for (const auto& rank : ranks) {
    for (const TimedAction& timed : rank) busy += timed.end - timed.begin;
  }
  const double all = static_cast<double>(Span()) * static_cast<double>(ranks.size());
  return all == 0 ? 0 : 1 - busy / all;
}

std::string Timeline::Picture() const {
  int widest = 0, chunks = 1;
  for (const auto& rank : ranks) {
    for (const TimedAction& timed : rank) {
      widest = std::max(widest, timed.action.micro_batch);
      chunks = std::max(chunks, timed.action.chunk + 1);
    }
  }
  const size_t cell = absl::StrCat(widest).size() + (chunks > 1 ? 2 : 1);
  std::string picture;
  for (const auto& rank : ranks) {
    int now = 0;
    std::string line;
    const auto append = [&](std::string text) {
      text.resize(cell, ' ');
      absl::StrAppend(&line, text, " ");
      ++now;
    };
    for (const TimedAction& timed : rank) {
      while (now < timed.begin) append(std::string(cell, '.'));
      const Action& action = timed.action;
      std::string text =
          absl::StrCat(std::string(1, "FBIW"[static_cast<int>(action.kind)]), action.micro_batch);
      if (chunks > 1) text += static_cast<char>('a' + action.chunk);
      while (now < timed.end) append(text);
    }
    absl::StrAppend(&picture, line, "\n");
  }
  return picture;
}

absl::StatusOr<Timeline> Simulate(const std::vector<Schedule>& schedules, int num_chunks,
                                  const ActionCosts& costs) {
  return Simulation(schedules, num_chunks, costs).Run();
}

}  // namespace lathe
