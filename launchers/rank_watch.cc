#include "lathe/launchers/rank_watch.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "lathe/trainer/stop_request.h"

namespace lathe {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// How long the others may take to come to the collective in which they miss the one that failed.
constexpr seconds kUntilReport(3);
constexpr seconds kToFail(5), kToEndWell(60);
// A rank in a collective for so long waits there.
constexpr milliseconds kWaits(200);
// While a rank loads its libraries it can give no signs.
constexpr seconds kToStart(60);
// Between two looks: more means that this process itself was stopped, or its whole machine.
constexpr seconds kMostBetweenLooks(5);
constexpr int kMostRanksByName = 16;
constexpr int kAbandonedExitCode = 1;

int ExitCode(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

bool Failed(int status) {
  const int code = ExitCode(status);
  return code != 0 && code != kStoppedExitCode;
}

// By SIGSTOP or a debugger.
bool IsStopped(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  const std::string stat{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos || name_end + 2 >= stat.size()) return false;
  return stat[name_end + 2] == 'T' || stat[name_end + 2] == 't';
}

std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "unknown";
}

std::string Where(const BeaconReading& reading) {
  return absl::StrCat(reading.step < 0 ? "" : absl::StrCat("at step ", reading.step, " "), "in ",
                      PhaseName(reading.phase), reading.collective.empty() ? "" : ", within ",
                      reading.collective);
}

std::string Names(const std::vector<int>& ranks) {
  if (ranks.size() > kMostRanksByName) return absl::StrCat(ranks.size(), " ranks");
  return absl::StrCat(ranks.size() == 1 ? "rank " : "ranks ", absl::StrJoin(ranks, ", "));
}

}  // namespace

void RankWatch::Add(pid_t pid) {
  ranks_.push_back({.pid = pid, .moved = Clock::now()});
  ++num_running_;
}

void RankWatch::SignalAll(int signal) const {
  for (const Rank& rank : ranks_) {
    if (rank.running) kill(rank.pid, signal);
  }
}

void RankWatch::ListenToLauncher() {
  if (options_.link == nullptr || abandoned_) return;
  const LauncherLink::State state = options_.link->Poll(pending_signal_);
  if (state == LauncherLink::State::kUp) return;
  abandoned_ = true;
  if (state == LauncherLink::State::kLost && !ended_ && culprit_ < 0) {
    std::fprintf(stderr, "host %s has lost the launcher that started it; ending its ranks\n",
                 HostName().c_str());
  }
  SignalAll(SIGKILL);
}

void RankWatch::PassSignalOn() {
  const int signal = pending_signal_;
  if (signal == 0) return;
  pending_signal_ = 0;
  SignalAll(signal);
}

int RankWatch::UntilTheEnd() {
  while (num_running_ > 0) {
    const Clock::time_point now = Clock::now();
    ListenToLauncher();
    PassSignalOn();
    Reap(now);
    if (abandoned_) {
      usleep(20000);
      continue;
    }
    ReadBeacons(now);
    if (culprit_ < 0 && hang_timeout_.count() > 0) LookForHang(now);
    if (culprit_ >= 0 && !reported_ && (now > failed_at_ + kUntilReport || OthersWait(now))) {
      Report(HowItEnded());
    }
    if (now > deadline_) {
      SignalAll(SIGKILL);
      deadline_ = Clock::time_point::max();
    }
    if (num_running_ > 0) usleep(20000);  // or until a child ends: its signal has a handler
  }
  if (abandoned_) return kAbandonedExitCode;
  if (culprit_ >= 0 && !reported_) Report(HowItEnded());
  return culprit_ >= 0 ? ExitCode(ranks_[culprit_].status) : result_;
}

void RankWatch::Reap(Clock::time_point now) {
  int status = 0;
  while (const pid_t pid = waitpid(-1, &status, WNOHANG)) {
    if (pid < 0) return;
    for (size_t rank = 0; rank < ranks_.size(); ++rank) {
      if (!ranks_[rank].running || ranks_[rank].pid != pid) continue;
      ranks_[rank].running = false;
      ranks_[rank].status = status;
      ranks_[rank].last = board_.Read(static_cast<int>(rank));
      --num_running_;
      NoteEnd(static_cast<int>(rank), now);
    }
  }
}

void RankWatch::NoteEnd(int rank, Clock::time_point now) {
  if (!Failed(ranks_[rank].status)) {
    if (result_ == 0) result_ = ExitCode(ranks_[rank].status);
    // Ranks that do well end together, after a barrier: one that stays behind is stuck.
    if (!ended_ && culprit_ < 0) deadline_ = now + kToEndWell;
    ended_ = true;
  } else if (culprit_ < 0) {
    culprit_ = rank;
    failed_at_ = now;
    deadline_ = now + kToFail;
  } else if (!reported_ && Blame(rank) > Blame(culprit_)) {
    culprit_ = rank;
  }
}

// Of two that failed at about the same time, who was first.
int RankWatch::Blame(int rank) const {
  if (WIFSIGNALED(ranks_[rank].status)) return 2;
  return ranks_[rank].last.collective.empty() ? 1 : 0;
}

void RankWatch::ReadBeacons(Clock::time_point now) {
  const bool looked_away = now > last_look_ + kMostBetweenLooks;
  last_look_ = now;
  for (size_t i = 0; i < ranks_.size(); ++i) {
    Rank& rank = ranks_[i];
    if (!rank.running) continue;
    const uint64_t before = rank.last.signs;
    rank.last = board_.Read(static_cast<int>(i));
    if (rank.last.signs != before || looked_away) rank.moved = now;
  }
}

bool RankWatch::OthersWait(Clock::time_point now) const {
  for (const Rank& rank : ranks_) {
    if (rank.running && (rank.last.collective.empty() || now < rank.moved + kWaits)) return false;
  }
  return true;
}

bool RankWatch::StandsStill(const Rank& rank, Clock::time_point now) const {
  const bool starts = rank.last.phase == Phase::kStart;
  return now > rank.moved + (starts ? std::max(kToStart, hang_timeout_) : hang_timeout_);
}

void RankWatch::LookForHang(Clock::time_point now) {
  bool all_stand_still = options_.sees_all_ranks;
  for (const Rank& rank : ranks_) {
    all_stand_still = all_stand_still && (!rank.running || StandsStill(rank, now));
  }
  using Innocence = std::tuple<bool, bool, Clock::time_point>;  // is not stopped, waits, moved
  Innocence least;
  for (size_t i = 0; i < ranks_.size(); ++i) {
    const Rank& rank = ranks_[i];
    if (!rank.running || !StandsStill(rank, now)) continue;
    const bool stopped = IsStopped(rank.pid), waits = !rank.last.collective.empty();
    if (!stopped && waits && !all_stand_still) continue;
    const Innocence innocence(!stopped, waits, rank.moved);
    if (culprit_ >= 0 && innocence >= least) continue;
    least = innocence;
    culprit_ = static_cast<int>(i);
  }
  if (culprit_ < 0) return;
  Report(absl::StrCat(std::get<0>(least) ? "hangs" : "is stopped",
                      ", has given no sign of life for ", hang_timeout_.count(),
                      " s (--hang_timeout_in_seconds)"));
  SignalAll(SIGKILL);
}

std::string RankWatch::HowItEnded() const {
  const int status = ranks_[culprit_].status;
  if (!WIFSIGNALED(status)) return absl::StrCat("ended with exit code ", WEXITSTATUS(status));
  return absl::StrCat("was killed by signal ", WTERMSIG(status), " (", strsignal(WTERMSIG(status)),
                      ")");
}

std::string RankWatch::WhereOthersAre() const {
  std::map<std::string, std::vector<int>> places;
  for (int i = 0; i < static_cast<int>(ranks_.size()); ++i) {
    const Rank& rank = ranks_[i];
    if (i == culprit_ || (!rank.running && !Failed(rank.status))) continue;
    places[rank.last.collective.empty() ? absl::StrCat(" in ", PhaseName(rank.last.phase))
                                        : absl::StrCat(" waiting in ", rank.last.collective)]
        .push_back(options_.first_rank + i);
  }
  std::vector<std::string> parts;
  for (const auto& [place, ranks] : places) parts.push_back(absl::StrCat(Names(ranks), place));
  return absl::StrJoin(parts, ", ");
}

void RankWatch::Report(const std::string& what_happened) {
  reported_ = true;
  const std::string others = WhereOthersAre();
  std::fprintf(stderr, "rank %d %s on host %s, %s%s%s; ending the others\n",
               options_.first_rank + culprit_, what_happened.c_str(), HostName().c_str(),
               Where(ranks_[culprit_].last).c_str(), others.empty() ? "" : "; ", others.c_str());
}

}  // namespace lathe
