// The local launcher's eye on its ranks: who has died, who has stopped moving, and that nobody
// outlives the others for long.
//
//   RankWatch watch(board, {.hang_timeout_seconds = 600}, pending_signal);
//   watch.Add(pid);                       // rank 0, 1, ...
//   const int exit_code = watch.UntilTheEnd();
//
// A rank that dies is named in one line on standard error, with its host, step, phase and the
// collective in which the others wait for it; that line comes as soon as they all do, at latest
// after 3 seconds. Of ranks that fail together the one that a signal killed is named, else one that
// failed outside of a collective: within one, it is the other side that is to blame.
//
// A rank hangs when its beacon (lathe/base/beacon.h) has stood still for the timeout, while it is
// stopped (SIGSTOP, a debugger) or outside of any collective, or when all ranks of the run are here
// and stand still: then the one that did first. It is named likewise, and all are killed at once.
// The start, libraries and first reads included, may take a minute without a sign whatever the
// timeout.
//
// Thread rule: one thread, the one that started the ranks.
#ifndef LATHE_LAUNCHERS_RANK_WATCH_H_
#define LATHE_LAUNCHERS_RANK_WATCH_H_

#include <signal.h>
#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "lathe/base/beacon.h"
#include "lathe/launchers/launcher_link.h"

namespace lathe {

struct RankWatchOptions {
  int hang_timeout_seconds = 0;  // 0: nothing is a hang
  int first_rank = 0;
  // Else some are on other machines: all ranks here may wait for one of those as long as it takes.
  bool sees_all_ranks = true;
  // Not null: the launcher of many machines, whose signals are passed on, and without which the
  // ranks do not live.
  LauncherLink* link = nullptr;
};

class RankWatch {
 public:
  // A signal in `pending_signal` is passed on to the ranks and set to 0. References must outlive
  // the object.
  RankWatch(const BeaconBoard& board, const RankWatchOptions& options,
            volatile sig_atomic_t& pending_signal)
      : board_(board),
        options_(options),
        hang_timeout_(options.hang_timeout_seconds),
        pending_signal_(pending_signal) {}

  // The next rank's process, a child of this one.
  void Add(pid_t pid);

  // Kills them.
  void End() { SignalAll(SIGKILL); }

  // Returns when all ranks are gone: the exit code of the one that is to blame, 128 + signal if it
  // was killed; 1 if the link has ended; else 75 if they were stopped
  // (lathe/trainer/stop_request.h), 0 if not. When a rank fails, the others get 5 seconds to report
  // and are then killed (60 when one ends well).
  int UntilTheEnd();

 private:
  using Clock = std::chrono::steady_clock;

  struct Rank {
    pid_t pid = 0;
    bool running = true;
    int status = 0;  // waitpid's, after its end
    BeaconReading last;
    Clock::time_point moved;  // when `last` was new
  };

  void SignalAll(int signal) const;
  void PassSignalOn();
  void ListenToLauncher();
  void Reap(Clock::time_point now);
  void NoteEnd(int rank, Clock::time_point now);
  void ReadBeacons(Clock::time_point now);
  int Blame(int rank) const;
  bool OthersWait(Clock::time_point now) const;
  bool StandsStill(const Rank& rank, Clock::time_point now) const;
  void LookForHang(Clock::time_point now);
  void Report(const std::string& what_happened);
  std::string HowItEnded() const;
  std::string WhereOthersAre() const;

  const BeaconBoard& board_;
  const RankWatchOptions options_;
  const std::chrono::seconds hang_timeout_;
  volatile sig_atomic_t& pending_signal_;
  std::vector<Rank> ranks_;
  int num_running_ = 0;
  int culprit_ = -1;  // the rank that is to blame, as far as is known
  bool reported_ = false, ended_ = false;
  bool abandoned_ = false;  // the link has ended: nobody here is to blame
  int result_ = 0;          // while nobody has failed
  Clock::time_point last_look_ = Clock::now(), failed_at_;
  Clock::time_point deadline_ = Clock::time_point::max();  // when those who are left are killed
};

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_RANK_WATCH_H_
