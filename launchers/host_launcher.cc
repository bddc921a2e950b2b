#include "lathe/launchers/host_launcher.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "lathe/launchers/launcher_link.h"
#include "lathe/trainer/stop_request.h"

extern char** environ;

namespace lathe {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::seconds;

// A machine's launcher ends its own ranks within 5 seconds, and says within 3 which failed.
constexpr seconds kToReport(15), kToEnd(5), kToEndWell(60);
// ssh's own, and the shell's for a program that is not there or cannot be run.
constexpr int kSshFailed = 255, kNotFound = 127, kNotRun = 126;

// Beginnings of names. What names this machine's own things (paths, the terminal) is not passed on.
constexpr const char* kPassedOn[] = {
    "BUILD_WORKING_DIRECTORY", "GLOO_", "GOMP_", "MKL_", "NCCL_", "OMP_", "TORCH_", "UCX_",
    "LD_LIBRARY_PATH"};

volatile sig_atomic_t pending_signal = 0;
void OnSignal(int signal) { pending_signal = signal; }
// That a child has ended only wakes the loop up.
void OnChild(int) {}

std::vector<std::string> PassedOn() {
  std::vector<std::string> settings;
  for (char** setting = environ; *setting != nullptr; ++setting) {
    for (const char* name : kPassedOn) {
      if (absl::StartsWith(*setting, name)) settings.emplace_back(*setting);
    }
  }
  return settings;
}

struct HostProcess {
  const LaunchNode* node = nullptr;
  bool by_ssh = false;
  pid_t pid = 0;
  int to_node = -1;
  bool running = true;
};

// In the child: with `from_launcher` as standard input.
void PrepareChild(int from_launcher, pid_t launcher) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  // Its own process group: Ctrl-C reaches the launcher alone, which passes it on once.
  setpgid(0, 0);
  if (getppid() != launcher) _exit(kNotFound);
  signal(SIGTERM, SIG_DFL);
  signal(SIGINT, SIG_DFL);
  signal(SIGCHLD, SIG_DFL);
  dup2(from_launcher, STDIN_FILENO);
  if (from_launcher == STDIN_FILENO) fcntl(STDIN_FILENO, F_SETFD, 0);
}

[[noreturn]] void Become(const char* program, std::vector<std::string> words) {
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  execvp(program, arguments.data());
  std::fprintf(stderr, "error: cannot start %s: %s\n", program, std::strerror(errno));
  _exit(kNotFound);
}

int ExitCode(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

// A rank or a machine's launcher that a signal killed.
bool WasKilled(int exit_code) { return exit_code > 128 && exit_code != kSshFailed; }

class HostWatch {
 public:
  absl::Status Start(char** argv, const LaunchPlan& plan) {
    std::error_code error;
    const std::string program = std::filesystem::read_symlink("/proc/self/exe", error).string();
    const std::string folder = std::filesystem::current_path(error).string();
    const std::vector<std::string> arguments(argv + 1, argv + CountOf(argv));
    const pid_t self = getpid();
    for (const LaunchNode& node : plan.nodes) {
      int ends[2];
      if (pipe2(ends, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "cannot make a pipe");
      const bool by_ssh = !IsThisMachine(node.host);
      const pid_t pid = fork();
      if (pid == 0) {
        PrepareChild(ends[0], self);
        if (by_ssh) {
          Become("ssh", SshCommand(node, plan.ssh_port, program, folder, PassedOn(), arguments));
        }
        setenv(kNodeVariable, NodeText(node).c_str(), 1);
        Become("/proc/self/exe", {argv, argv + CountOf(argv)});
      }
      close(ends[0]);
      if (pid < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot start ", node.host));
      hosts_.push_back({&node, by_ssh, pid, ends[1]});
    }
    return absl::OkStatus();
  }

  int UntilTheEnd() {
    Clock::time_point next_pulse = Clock::now();
    int num_running = static_cast<int>(hosts_.size());
    while (num_running > 0) {
      const Clock::time_point now = Clock::now();
      if (const int signal = pending_signal; signal != 0) {
        pending_signal = 0;
        SayToAll(signal == SIGINT ? kInterrupt : kTerminate);
      }
      if (now >= next_pulse) {
        SayToAll(kAlive);
        next_pulse = now + kLinkPulse;
      }
      num_running -= Reap(now);
      if (now > deadline_) End();
      if (num_running > 0) usleep(20000);
    }
    return exit_code_;
  }

  // Ends all: politely first, then by force.
  void End() {
    if (!told_to_end_) {
      told_to_end_ = true;
      SayToAll(kEnd);
      deadline_ = Clock::now() + kToEnd;
      return;
    }
    for (const HostProcess& host : hosts_) {
      if (host.running) kill(host.pid, SIGKILL);
    }
    deadline_ = Clock::time_point::max();
  }

 private:
  static size_t CountOf(char** argv) {
    size_t count = 0;
    while (argv[count] != nullptr) ++count;
    return count;
  }

  void SayToAll(LinkWord word) const {
    for (const HostProcess& host : hosts_) {
      if (host.running) SayToNode(host.to_node, word);
    }
  }

  int Reap(Clock::time_point now) {
    int count = 0, status = 0;
    for (HostProcess& host : hosts_) {
      if (!host.running || waitpid(host.pid, &status, WNOHANG) != host.pid) continue;
      host.running = false;
      close(host.to_node);
      ++count;
      NoteEnd(host, ExitCode(status), now);
    }
    return count;
  }

  void NoteEnd(const HostProcess& host, int code, Clock::time_point now) {
    const bool failed = code != 0 && code != kStoppedExitCode;
    if (told_to_end_) return;
    if (!failed) {
      if (failed_) return;
      if (exit_code_ == 0) exit_code_ = code;
      if (deadline_ == Clock::time_point::max()) deadline_ = now + kToEndWell;
    } else if (!failed_) {
      failed_ = true;
      exit_code_ = code;
      deadline_ = now + kToReport;
      std::fprintf(stderr, "host %s %s; ending the others\n", host.node->host.c_str(),
                   WhatHappened(host, code).c_str());
    } else if (WasKilled(code) && !WasKilled(exit_code_)) {
      exit_code_ = code;
    }
  }

  static std::string WhatHappened(const HostProcess& host, int code) {
    const std::string plain = absl::StrCat("ended with exit code ", code);
    if (host.by_ssh && code == kSshFailed) {
      return absl::StrCat("cannot be reached through ssh, or the connection was lost (exit code ",
                          code, ")");
    }
    if (host.by_ssh && (code == kNotFound || code == kNotRun)) {
      return absl::StrCat(plain,
                          ": the program and the working folder must be there under the same "
                          "paths as here");
    }
    return plain;
  }

  std::vector<HostProcess> hosts_;
  bool failed_ = false, told_to_end_ = false;
  int exit_code_ = 0;
  Clock::time_point deadline_ = Clock::time_point::max();
};

}  // namespace

std::string ShellWord(std::string_view text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "'\\''"}}), "'");
}

std::vector<std::string> SshCommand(const LaunchNode& node, int ssh_port,
                                    const std::string& program, const std::string& folder,
                                    const std::vector<std::string>& settings,
                                    const std::vector<std::string>& arguments) {
  // No questions, for which nobody is there; a connection that is cut ends within half a minute.
  std::vector<std::string> words = {"ssh", "-T",
                                    "-o",  "BatchMode=yes",
                                    "-o",  "ConnectTimeout=30",
                                    "-o",  "ServerAliveInterval=10",
                                    "-o",  "ServerAliveCountMax=3"};
  if (ssh_port != 0) words.insert(words.end(), {"-p", absl::StrCat(ssh_port)});
  words.push_back(node.host);
  std::string command = absl::StrCat("cd ", ShellWord(folder), " && exec env");
  for (const std::string& setting : settings) absl::StrAppend(&command, " ", ShellWord(setting));
  absl::StrAppend(&command, " ", ShellWord(absl::StrCat(kNodeVariable, "=", NodeText(node))), " ",
                  ShellWord(program));
  for (const std::string& argument : arguments) absl::StrAppend(&command, " ", ShellWord(argument));
  words.push_back(std::move(command));
  return words;
}

absl::StatusOr<int> LaunchHosts(char** argv, const LaunchPlan& plan) {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  action.sa_handler = OnChild;
  sigaction(SIGCHLD, &action, nullptr);
  HostWatch watch;
  const absl::Status started = watch.Start(argv, plan);
  if (!started.ok()) {
    watch.End();
    watch.UntilTheEnd();
    return started;
  }
  return watch.UntilTheEnd();
}

}  // namespace lathe
