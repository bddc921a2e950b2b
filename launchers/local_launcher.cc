#include "lathe/launchers/local_launcher.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "lathe/comm/launch_environment.h"
#include "lathe/trainer/stop_request.h"

namespace lathe {
namespace {

// Far more than any machine has cores for, and few enough to start.
constexpr int kMostRanks = 1024;

volatile sig_atomic_t pending_signal = 0;
void OnSignal(int signal) { pending_signal = signal; }

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

pid_t StartRank(char** argv, int rank, int num_ranks, int port, pid_t launcher) {
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
  execv("/proc/self/exe", argv);
  std::fprintf(stderr, "error: cannot start rank %d: %s\n", rank, std::strerror(errno));
  _exit(127);
}

void SignalAll(const std::vector<pid_t>& pids, int signal) {
  for (const pid_t pid : pids) {
    if (pid > 0) kill(pid, signal);
  }
}

int ExitCode(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void ReportDeath(int rank, int status) {
  if (WIFSIGNALED(status)) {
    std::fprintf(stderr, "rank %d was killed by signal %d (%s); ending the others\n", rank,
                 WTERMSIG(status), strsignal(WTERMSIG(status)));
  } else {
    std::fprintf(stderr, "rank %d ended with exit code %d; ending the others\n", rank,
                 WEXITSTATUS(status));
  }
}

// Waits for the ranks, passes signals on, and lets nobody outlive the others for long.
class Watch {
 public:
  explicit Watch(std::vector<pid_t> pids) : pids_(std::move(pids)) {}

  // Returns when all ranks are gone.
  int UntilTheEnd() {
    int running = static_cast<int>(pids_.size());
    while (running > 0) {
      if (const int signal = pending_signal; signal != 0) {
        pending_signal = 0;
        SignalAll(pids_, signal);
      }
      if (Clock::now() > deadline_) {
        SignalAll(pids_, SIGKILL);
        deadline_ = Clock::time_point::max();
      }
      int status = 0;
      const pid_t pid = waitpid(-1, &status, WNOHANG);
      const auto found = pid > 0 ? std::find(pids_.begin(), pids_.end(), pid) : pids_.end();
      if (found == pids_.end()) {
        usleep(20000);
        continue;
      }
      *found = 0;
      --running;
      Note(static_cast<int>(found - pids_.begin()), status, running);
    }
    return result_;
  }

 private:
  using Clock = std::chrono::steady_clock;

  void Note(int rank, int status, int running) {
    const int code = ExitCode(status);
    const bool failed = code != 0 && code != kStoppedExitCode;
    if (failed && !failed_ && running > 0) ReportDeath(rank, status);
    if (failed ? !failed_ : result_ == 0) result_ = code;
    // Ranks that do well end together, after a barrier: one that stays behind is stuck.
    const auto grace = std::chrono::seconds(failed ? 5 : 60);
    if (failed ? !failed_ : !ended_) deadline_ = Clock::now() + grace;
    failed_ = failed_ || failed;
    ended_ = true;
  }

  std::vector<pid_t> pids_;
  Clock::time_point deadline_ = Clock::time_point::max();
  bool failed_ = false, ended_ = false;
  int result_ = 0;
};

}  // namespace

bool IsRank() {
  const auto env = ReadLaunchEnvironment(std::getenv);
  // A broken environment is reported by whoever reads it next. A job of one task may start ranks.
  return !env.ok() || env->world_size > 1;
}

int LaunchLocalRanks(int, char** argv, int num_ranks) {
  if (num_ranks > kMostRanks) {
    std::fprintf(stderr, "error: --nproc_per_node %d: expected at most %d\n", num_ranks,
                 kMostRanks);
    return 2;
  }
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  const int port = FreePort();
  const pid_t self = getpid();
  std::vector<pid_t> pids;
  for (int rank = 0; rank < num_ranks; ++rank) {
    const pid_t pid = StartRank(argv, rank, num_ranks, port, self);
    if (pid < 0) {
      std::fprintf(stderr, "error: cannot start rank %d: %s\n", rank, std::strerror(errno));
      SignalAll(pids, SIGKILL);
      Watch(pids).UntilTheEnd();
      return 2;
    }
    pids.push_back(pid);
  }
  return Watch(std::move(pids)).UntilTheEnd();
}

}  // namespace lathe
