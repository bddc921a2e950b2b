#include "lathe/tests/launch/two_hosts.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#include "lathe/tests/process/program.h"

namespace lathe {
namespace {

constexpr char kNsenter[] = "/usr/bin/nsenter";
constexpr const char* kNames[] = {"hosta", "hostb"};
constexpr const char* kAddresses[] = {"10.77.0.1", "10.77.0.2"};

bool WriteProc(const char* path, const std::string& text) {
  std::ofstream stream(path);
  stream << text << std::flush;
  return stream.good();
}

}  // namespace

absl::Status EnterOwnNamespaces() {
  const uid_t user = getuid();
  const gid_t group = getgid();
  if (unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS) != 0) {
    return absl::ErrnoToStatus(errno, "unshare");
  }
  WriteProc("/proc/self/setgroups", "deny");  // not there to write for root
  if (!WriteProc("/proc/self/uid_map", absl::StrCat("0 ", user, " 1")) ||
      !WriteProc("/proc/self/gid_map", absl::StrCat("0 ", group, " 1"))) {
    return absl::PermissionDeniedError("uid_map");
  }
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return absl::ErrnoToStatus(errno, "mount");
  }
  if (access(kNsenter, X_OK) != 0) return absl::NotFoundError(kNsenter);
  if (system("ip link add lathe0 type veth peer name lathe1 && ip link del lathe0") != 0) {
    return absl::UnavailableError("ip link add ... type veth");
  }
  return absl::OkStatus();
}

TwoHosts::TwoHosts() {
  std::string networks[2];
  for (int host = 0; host < 2; ++host) {
    int ready[2], done[2];
    EXPECT_EQ(pipe2(ready, O_CLOEXEC) + pipe2(done, O_CLOEXEC), 0);
    const pid_t pid = fork();
    char byte = 0;
    if (pid == 0) {
      const bool fine = unshare(CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWNS) == 0 &&
                        sethostname(kNames[host], 5) == 0;
      close(done[1]);
      if (fine && write(ready[1], "x", 1) == 1 && read(done[0], &byte, 1) >= 0) _exit(0);
      _exit(1);
    }
    close(ready[1]);
    EXPECT_EQ(read(ready[0], &byte, 1), 1);
    // Descriptors keep the namespaces when the process has gone.
    for (const char* kind : {"net", "uts", "mnt"}) {
      const int fd = open(absl::StrCat("/proc/", pid, "/ns/", kind).c_str(), O_RDONLY | O_CLOEXEC);
      EXPECT_GE(fd, 0);
      const std::string path = absl::StrCat("/proc/", getpid(), "/fd/", fd);
      const char* option = kind[0] == 'n' ? "--net=" : kind[0] == 'u' ? "--uts=" : "--mount=";
      entrances_[host].push_back(option + path);
      if (kind[0] == 'n') networks[host] = path;
    }
    close(done[0]);
    close(done[1]);
    close(ready[0]);
    waitpid(pid, nullptr, 0);
  }
  const ProgramEnd link = RunProgram(
      "/bin/sh",
      {.arguments = {"-c", absl::StrCat("exec ip link add veth0 netns ", networks[0],
                                        " type veth peer name veth0 netns ", networks[1])}});
  EXPECT_EQ(link.exit_code, 0) << link.Text();
  const std::string folder = NewFolder();
  for (int host = 0; host < 2; ++host) {
    const std::string names = absl::StrCat(folder, "/hosts", host);
    WriteFile(names, absl::StrCat("127.0.0.1 localhost\n127.0.1.1 ", kNames[host], "\n",
                                  kAddresses[1 - host], " ", kNames[1 - host], "\n"));
    Do(host, {"ip", "link", "set", "lo", "up"});
    Do(host, {"ip", "addr", "add", absl::StrCat(kAddresses[host], "/24"), "dev", "veth0"});
    Do(host, {"ip", "link", "set", "veth0", "up"});
    Do(host, {"mount", "--bind", names, "/etc/hosts"});
  }
}

std::vector<std::string> TwoHosts::On(int host, const std::vector<std::string>& command) const {
  std::vector<std::string> words = entrances_[host];
  words.push_back("--");
  words.insert(words.end(), command.begin(), command.end());
  return words;
}

void TwoHosts::Do(int host, const std::vector<std::string>& command) const {
  const ProgramEnd end = RunProgram(kNsenter, {.arguments = On(host, command)});
  EXPECT_EQ(end.exit_code, 0) << absl::StrJoin(command, " ") << "\n" << end.Text();
}

std::string TwoHosts::MakeSsh() const {
  const std::string folder = NewFolder();
  // Options before the host's name are ssh's own; -T is the only one without a value.
  std::string script =
      "#!/bin/sh\n"
      "while :; do case $1 in -T) shift;; -*) shift 2;; *) break;; esac; done\n"
      "case $1 in\n";
  for (int host = 0; host < 2; ++host) {
    absl::StrAppend(&script, kNames[host], ") exec ", kNsenter, " ",
                    absl::StrJoin(entrances_[host], " "), " -- /bin/sh -c \"$2\";;\n");
  }
  absl::StrAppend(&script,
                  "*) echo \"ssh: Could not resolve hostname $1\" >&2; exit 255;;\nesac\n");
  WriteFile(folder + "/ssh", script);
  std::filesystem::permissions(folder + "/ssh", std::filesystem::perms::owner_all);
  return folder;
}

}  // namespace lathe
