#include "lathe/trainer/stop_request.h"

#include <csignal>

namespace lathe {
namespace {

volatile std::sig_atomic_t stop_requested = 0;

void OnSignal(int signal) {
  if (stop_requested) {
    // Asked twice: the default action, at once.
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  stop_requested = 1;
}

}  // namespace

void InstallStopHandlers() {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;  // a write of a checkpoint goes on
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
}

bool StopRequested() { return stop_requested != 0; }

}  // namespace lathe
