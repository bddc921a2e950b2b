#include "lathe/launchers/local_launcher.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/base/beacon.h"
#include "lathe/comm/launch_environment.h"
#include "lathe/launchers/rank_watch.h"

namespace lathe {
namespace {

// Far more than any machine has cores for, and few enough to start.
constexpr int kMostRanks = 1024;

volatile sig_atomic_t pending_signal = 0;
void OnSignal(int signal) { pending_signal = signal; }
// That a child has ended only wakes the watch up.
void OnChild(int) {}

// A port that is free now on loopback. Somebody could take it before rank 0 listens; that run then
// says so and ends.
int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  int port = 29500;
  if (fd >= 0 && bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0 &&
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0) {
    port = ntohs(address.sin_port);
  }
  if (fd >= 0) close(fd);
  return port;
}

void SetEnvironment(int rank, int num_ranks, int port) {
  const std::string count = std::to_string(num_ranks), mine = std::to_string(rank);
  setenv("RANK", mine.c_str(), 1);
  setenv("LOCAL_RANK", mine.c_str(), 1);
  setenv("WORLD_SIZE", count.c_str(), 1);
  setenv("LOCAL_WORLD_SIZE", count.c_str(), 1);
  setenv("MASTER_ADDR", "127.0.0.1", 1);
  setenv("MASTER_PORT", std::to_string(port).c_str(), 1);
  const int cores = std::max(1u, std::thread::hardware_concurrency());
  setenv("OMP_NUM_THREADS", std::to_string(std::max(1, cores / num_ranks)).c_str(), 0);
  // Idle OpenMP threads must not spin on cores that other ranks need.
  setenv("GOMP_SPINCOUNT", "0", 0);
}

pid_t StartRank(char** argv, int rank, int num_ranks, int port, const BeaconBoard& board,
                pid_t launcher) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // Its own process group: Ctrl-C reaches the launcher alone, which passes it on once. Twice would
  // mean "at once".
  setpgid(0, 0);
  if (getppid() != launcher) _exit(127);  // the launcher died before the line above
  signal(SIGTERM, SIG_DFL);
  signal(SIGINT, SIG_DFL);
  SetEnvironment(rank, num_ranks, port);
  board.Offer(rank);
  execv("/proc/self/exe", argv);
  std::fprintf(stderr, "error: cannot start rank %d: %s\n", rank, std::strerror(errno));
  _exit(127);
}

}  // namespace

bool IsRank() {
  const auto env = ReadLaunchEnvironment(std::getenv);
  // A broken environment is reported by whoever reads it next. A job of one task may start ranks.
  return !env.ok() || env->world_size > 1;
}

absl::StatusOr<int> LaunchLocalRanks(char** argv, int num_ranks, int hang_timeout_seconds) {
  if (num_ranks > kMostRanks) {
    return absl::InvalidArgumentError(
        absl::StrCat("--nproc_per_node ", num_ranks, ": expected at most ", kMostRanks));
  }
  ABSL_ASSIGN_OR_RETURN(const BeaconBoard board, BeaconBoard::Create(num_ranks));
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  action.sa_handler = OnChild;
  sigaction(SIGCHLD, &action, nullptr);
  const int port = FreePort();
  const pid_t self = getpid();
  RankWatch watch(board, hang_timeout_seconds, pending_signal);
  for (int rank = 0; rank < num_ranks; ++rank) {
    const pid_t pid = StartRank(argv, rank, num_ranks, port, board, self);
    if (pid < 0) {
      const int error = errno;
      watch.End();
      watch.UntilTheEnd();
      return absl::ErrnoToStatus(error, absl::StrCat("cannot start rank ", rank));
    }
    watch.Add(pid);
  }
  return watch.UntilTheEnd();
}

}  // namespace lathe
