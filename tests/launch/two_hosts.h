// Two machines for a test: network namespaces with a host name and mounts of their own, joined by a
// veth pair. "hosta" is 10.77.0.1, "hostb" 10.77.0.2; each knows itself as 127.0.1.1, as on Debian.
//
//   absl::Status possible = EnterOwnNamespaces();   // before the first thread
//   TwoHosts hosts;
//   Program::Start("/usr/bin/nsenter", {.arguments = hosts.On(1, {pretrain, ...})});
//   hosts.Cut(); hosts.Mend();
#ifndef LATHE_TESTS_LAUNCH_TWO_HOSTS_H_
#define LATHE_TESTS_LAUNCH_TWO_HOSTS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace lathe {

// This process becomes root of namespaces of its own. Errors: what the system does not allow.
absl::Status EnterOwnNamespaces();

class TwoHosts {
 public:
  // A failure fails the test.
  TwoHosts();

  // nsenter's arguments that run `command` on host 0 or 1.
  std::vector<std::string> On(int host, const std::vector<std::string>& command) const;
  // Runs it and expects it to succeed.
  void Do(int host, const std::vector<std::string>& command) const;

  // The cable between them. Connections stay open and silent.
  void Cut() const { Do(1, {"ip", "link", "set", "veth0", "down"}); }
  void Mend() const { Do(1, {"ip", "link", "set", "veth0", "up"}); }

  // A folder whose `ssh` enters hosta or hostb; to be put first on PATH.
  std::string MakeSsh() const;

 private:
  std::vector<std::string> entrances_[2];  // nsenter's options
};

}  // namespace lathe

#endif  // LATHE_TESTS_LAUNCH_TWO_HOSTS_H_
