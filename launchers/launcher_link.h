// What the launcher of many machines says to the launcher of one, a byte each, through ssh's
// standard input: that it is alive, which signal to pass on, that all is to end. When the
// connection ends, or nothing comes for a minute, the ranks on that machine have no one left.
//
//   launcher of many                          launcher of one, with LaunchNode::linked
//   SayToNode(fd, kAlive);                    LauncherLink link(STDIN_FILENO);
//   SayToNode(fd, kTerminate);                link.Poll(pending_signal);
#ifndef LATHE_LAUNCHERS_LAUNCHER_LINK_H_
#define LATHE_LAUNCHERS_LAUNCHER_LINK_H_

#include <signal.h>

#include <chrono>

namespace lathe {

enum LinkWord : char { kAlive = '.', kTerminate = 'T', kInterrupt = 'I', kEnd = 'K' };

// A connection that is gone is no error here: the process at its other end has ended.
void SayToNode(int descriptor, LinkWord word);

// How often the launcher says that it is alive, and how long silence may last.
inline constexpr std::chrono::seconds kLinkPulse(5), kMostSilence(60);

class LauncherLink {
 public:
  enum class State { kUp, kEnded, kLost };

  explicit LauncherLink(int descriptor) : descriptor_(descriptor) {}

  // Reads what has come, without waiting; a signal goes into `pending_signal`.
  State Poll(volatile sig_atomic_t& pending_signal);

 private:
  using Clock = std::chrono::steady_clock;

  const int descriptor_;
  Clock::time_point last_word_ = Clock::now(), last_look_ = Clock::now();
};

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_LAUNCHER_LINK_H_
