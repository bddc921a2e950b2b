#include "lathe/tests/process/program.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

extern char** environ;

namespace lathe {
namespace {

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string ReadIfThere(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

struct ProcessLine {
  pid_t pid = 0, parent = 0;
  char state = 0;
};

// All processes of the machine that can be seen.
std::vector<ProcessLine> Processes() {
  std::vector<ProcessLine> processes;
  DIR* const folder = opendir("/proc");
  while (const dirent* entry = folder == nullptr ? nullptr : readdir(folder)) {
    ProcessLine line;
    if (!absl::SimpleAtoi(entry->d_name, &line.pid)) continue;
    const std::string stat = ReadIfThere(absl::StrCat("/proc/", entry->d_name, "/stat"));
    const size_t bracket = stat.rfind(')');  // a program's name may hold brackets and spaces
    if (bracket == std::string::npos) continue;
    const std::vector<std::string> fields = absl::StrSplit(stat.substr(bracket + 2), ' ');
    if (fields.size() < 2 || !absl::SimpleAtoi(fields[1], &line.parent)) continue;
    line.state = fields[0][0];
    processes.push_back(line);
  }
  if (folder != nullptr) closedir(folder);
  return processes;
}

std::vector<pid_t> DescendantsNow(pid_t root) {
  const std::vector<ProcessLine> processes = Processes();
  std::vector<pid_t> found, parents = {root};
  while (!parents.empty()) {
    const pid_t parent = parents.back();
    parents.pop_back();
    for (const ProcessLine& process : processes) {
      if (process.parent != parent) continue;
      parents.push_back(process.pid);
      if (process.state != 'Z' && process.state != 'X') found.push_back(process.pid);
    }
  }
  return found;
}

// What happens between fork and exec.
[[noreturn]] void Become(const std::string& path, const ProgramOptions& options,
                         const std::string& out_path, const std::string& err_path,
                         std::vector<char*>& arguments, std::vector<char*>& environment) {
  const int in = open("/dev/null", O_RDONLY);
  const int out = open(out_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
  const int err = open(err_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
  dup2(in, 0);
  dup2(out, 1);
  dup2(err, 2);
  for (const int descriptor : {in, out, err}) {
    if (descriptor > 2) close(descriptor);
  }
  for (const int descriptor : options.closed_descriptors) close(descriptor);
  if (!options.working_folder.empty() && chdir(options.working_folder.c_str()) != 0) _exit(126);
  execve(path.c_str(), arguments.data(), environment.data());
  _exit(126);
}

}  // namespace

int ProgramEnd::Count(std::string_view text) const {
  int count = 0;
  for (const std::string* output : {&out, &err}) {
    for (size_t at = output->find(text); at != std::string::npos; at = output->find(text, at + 1))
      ++count;
  }
  return count;
}

std::string ProgramEnd::Text() const {
  return absl::StrCat("exit code ", exit_code, ", signal ", signal, timed_out ? ", timed out" : "",
                      ", ", seconds, " s, ", peak_bytes >> 20, " MiB\n--- stdout\n", out,
                      "--- stderr\n", err);
}

std::vector<std::string> ProgramEnd::ErrorLines() const {
  std::vector<std::string> lines;
  for (const std::string_view line : absl::StrSplit(err, '\n')) {
    if (absl::StartsWith(line, "error:")) lines.emplace_back(line);
  }
  return lines;
}

Program Program::Start(const std::string& path, const ProgramOptions& options) {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  const std::string absolute = std::filesystem::absolute(path).string();
  if (access(absolute.c_str(), X_OK) != 0) {
    ADD_FAILURE() << absolute << ": " << strerror(errno);
    std::exit(1);
  }
  const std::string folder = NewFolder();
  Program program;
  program.out_path_ = folder + "/stdout";
  program.err_path_ = folder + "/stderr";

  std::vector<std::string> words = {absolute};
  words.insert(words.end(), options.arguments.begin(), options.arguments.end());
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);

  std::vector<std::string> settings;
  for (char** setting = environ; *setting != nullptr; ++setting) {
    const std::string name(*setting, std::strcspn(*setting, "="));
    if (!options.environment.contains(name)) settings.emplace_back(*setting);
  }
  for (const auto& [name, value] : options.environment)
    settings.push_back(absl::StrCat(name, "=", value));
  std::vector<char*> environment;
  for (std::string& setting : settings) environment.push_back(setting.data());
  environment.push_back(nullptr);

  program.start_ = Now();
  program.pid_ = fork();
  if (program.pid_ == 0)
    Become(absolute, options, program.out_path_, program.err_path_, arguments, environment);
  return program;
}

Program::Program(Program&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      start_(other.start_),
      out_path_(std::move(other.out_path_)),
      err_path_(std::move(other.err_path_)) {}

Program::~Program() {
  if (pid_ > 0) Wait(0);
}

double Program::Seconds() const { return Now() - start_; }

void Program::Signal(int signal) const { kill(pid_, signal); }

bool Program::WaitForOutput(std::string_view text, double seconds) const {
  const double deadline = Now() + seconds;
  bool ended = false;
  while (true) {
    if (absl::StrContains(ReadIfThere(err_path_), text) ||
        absl::StrContains(ReadIfThere(out_path_), text))
      return true;
    if (ended || Now() > deadline) return false;
    siginfo_t info = {};
    ended = waitid(P_PID, pid_, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid_;
    usleep(2000);
  }
}

ProgramEnd Program::Wait(double timeout_seconds) {
  ProgramEnd end;
  int status = 0;
  rusage usage = {};
  while (wait4(pid_, &status, WNOHANG, &usage) == 0) {
    if (Now() - start_ > timeout_seconds) {
      end.timed_out = true;
      for (const pid_t pid : DescendantsNow(pid_)) kill(pid, SIGKILL);
      kill(pid_, SIGKILL);
      wait4(pid_, &status, 0, &usage);
      break;
    }
    usleep(2000);
  }
  pid_ = -1;
  end.seconds = Now() - start_;
  if (WIFEXITED(status)) end.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) end.signal = WTERMSIG(status);
  end.peak_bytes = static_cast<int64_t>(usage.ru_maxrss) * 1024;
  end.out = ReadIfThere(out_path_);
  end.err = ReadIfThere(err_path_);
  return end;
}

pid_t Program::Rank(int rank) const {
  for (const pid_t pid : DescendantsNow(pid_)) {
    const std::string environment = ReadIfThere(absl::StrCat("/proc/", pid, "/environ"));
    for (const std::string_view setting : absl::StrSplit(environment, '\0')) {
      if (setting == absl::StrCat("RANK=", rank)) return pid;
    }
  }
  return -1;
}

ProgramEnd RunProgram(const std::string& path, const ProgramOptions& options,
                      double timeout_seconds) {
  return Program::Start(path, options).Wait(timeout_seconds);
}

std::vector<pid_t> LiveDescendants(double seconds) {
  const double deadline = Now() + seconds;
  while (true) {
    const std::vector<pid_t> live = DescendantsNow(getpid());
    if (live.empty() || Now() > deadline) return live;
    usleep(10000);
  }
}

std::string NewFolder() {
  static int count = 0;
  const std::string folder = absl::StrCat(testing::TempDir(), "/lathe_", getpid(), "_", count++);
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  // Without links and doubled slashes: as the kernel names it.
  return std::filesystem::canonical(folder).string();
}

std::string ReadFile(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  EXPECT_TRUE(stream.good()) << path << " cannot be read";
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

void WriteFile(const std::string& path, std::string_view bytes) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream stream(path, std::ios::binary | std::ios::trunc);
  stream << bytes;
  stream.close();
  EXPECT_TRUE(stream.good()) << path << " cannot be written";
}

}  // namespace lathe
