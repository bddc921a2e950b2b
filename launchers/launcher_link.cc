#include "lathe/launchers/launcher_link.h"

#include <poll.h>
#include <unistd.h>

namespace lathe {

void SayToNode(int descriptor, LinkWord word) {
  const char byte = word;
  const ssize_t ignored = write(descriptor, &byte, 1);
  (void)ignored;
}

LauncherLink::State LauncherLink::Poll(volatile sig_atomic_t& pending_signal) {
  const Clock::time_point now = Clock::now();
  // Stopped in between: what the launcher has said waits in the pipe, but no time was lost.
  if (now > last_look_ + kLinkPulse) last_word_ = now;
  last_look_ = now;
  while (true) {
    pollfd ready = {descriptor_, POLLIN, 0};
    if (poll(&ready, 1, 0) <= 0 || ready.revents == 0) break;
    char byte = 0;
    if (read(descriptor_, &byte, 1) != 1) return State::kLost;
    last_word_ = now;
    if (byte == kEnd) return State::kEnded;
    if (byte == kTerminate) pending_signal = SIGTERM;
    if (byte == kInterrupt) pending_signal = SIGINT;
    // One signal at a time: the watch passes it on before it looks again.
    if (byte == kTerminate || byte == kInterrupt) break;
  }
  return now > last_word_ + kMostSilence ? State::kLost : State::kUp;
}

}  // namespace lathe
