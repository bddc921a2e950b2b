#include "lathe/launchers/local_launcher.h"

#include <arpa/inet.h>
#include <fcntl.h>
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
#include "lathe/launchers/launcher_link.h"
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

void SetEnvironment(const LaunchNode& node, int local_rank) {
  setenv("RANK", std::to_string(node.first_rank + local_rank).c_str(), 1);
  setenv("LOCAL_RANK", std::to_string(local_rank).c_str(), 1);
  setenv("WORLD_SIZE", std::to_string(node.world_size).c_str(), 1);
  setenv("LOCAL_WORLD_SIZE", std::to_string(node.num_ranks).c_str(), 1);
  setenv("MASTER_ADDR", node.master_address.c_str(), 1);
  setenv("MASTER_PORT", std::to_string(node.master_port).c_str(), 1);
  setenv("LATHE_LAUNCHER", "1", 1);
  // An agent of torchrun's that serves a store is none of these ranks'.
  unsetenv("TORCHELASTIC_USE_AGENT_STORE");
  unsetenv("TORCHELASTIC_RESTART_COUNT");
  if (!node.visible_gpus.empty()) setenv("CUDA_VISIBLE_DEVICES", node.visible_gpus.c_str(), 1);
  const int cores = std::max(1u, std::thread::hardware_concurrency());
  setenv("OMP_NUM_THREADS", std::to_string(std::max(1, cores / node.num_ranks)).c_str(), 0);
  // Idle OpenMP threads must not spin on cores that other ranks need.
  setenv("GOMP_SPINCOUNT", "0", 0);
}

// What the launcher of many machines says is for this process alone.
void DetachFromLink() {
  const int null = open("/dev/null", O_RDONLY);
  if (null < 0) return;
  dup2(null, STDIN_FILENO);
  if (null != STDIN_FILENO) close(null);
}

pid_t StartRank(char** argv, int local_rank, const LaunchNode& node, const BeaconBoard& board,
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
  SetEnvironment(node, local_rank);
  if (node.linked) DetachFromLink();
  board.Offer(local_rank);
  execv("/proc/self/exe", argv);
  std::fprintf(stderr, "error: cannot start rank %d: %s\n", node.first_rank + local_rank,
               std::strerror(errno));
  _exit(127);
}

}  // namespace

absl::StatusOr<int> LaunchLocalRanks(char** argv, const LaunchNode& plan,
                                     int hang_timeout_seconds) {
  LaunchNode node = plan;
  if (node.num_ranks > kMostRanks) {
    return absl::InvalidArgumentError(
        absl::StrCat("--nproc_per_node ", node.num_ranks, ": expected at most ", kMostRanks));
  }
  ABSL_ASSIGN_OR_RETURN(const BeaconBoard board, BeaconBoard::Create(node.num_ranks));
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  action.sa_handler = OnChild;
  sigaction(SIGCHLD, &action, nullptr);
  if (node.master_port == 0) node.master_port = FreePort();
  const pid_t self = getpid();
  LauncherLink link(STDIN_FILENO);
  RankWatch watch(board,
                  {.hang_timeout_seconds = hang_timeout_seconds,
                   .first_rank = node.first_rank,
                   .sees_all_ranks = node.has_all_ranks(),
                   .link = node.linked ? &link : nullptr},
                  pending_signal);
  for (int local_rank = 0; local_rank < node.num_ranks; ++local_rank) {
    const pid_t pid = StartRank(argv, local_rank, node, board, self);
    if (pid < 0) {
      const int error = errno;
      watch.End();
      watch.UntilTheEnd();
      return absl::ErrnoToStatus(error,
                                 absl::StrCat("cannot start rank ", node.first_rank + local_rank));
    }
    watch.Add(pid);
  }
  return watch.UntilTheEnd();
}

}  // namespace lathe
