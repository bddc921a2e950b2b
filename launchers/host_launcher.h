// The launcher of several machines: starts this program's local launcher on each, through ssh, and
// watches them.
//
//   return LaunchHosts(argv, plan);   // a LaunchPlan that is `through_ssh`
//
// A machine gets the same command line, the folder where this process stands, and of the
// environment what tunes libraries (OMP_*, NCCL_*, GLOO_* ...; kPassedOn in the .cc); this
// machine's own ranks need no ssh. All output comes to this process's. SIGTERM and SIGINT go
// through ssh's standard input (lathe/launchers/launcher_link.h) to every rank, which saves and
// exits with 75.
#ifndef LATHE_LAUNCHERS_HOST_LAUNCHER_H_
#define LATHE_LAUNCHERS_HOST_LAUNCHER_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "lathe/launchers/launch_plan.h"

namespace lathe {

// Returns when all are gone: the exit code of the machine that failed first (one with a rank that a
// signal killed before others), else 75 if ranks were stopped, 0 if not. When one fails, the others
// get 15 seconds to report and are then ended; 60 when one ends well. Errors: what the system says
// when a process cannot be started.
absl::StatusOr<int> LaunchHosts(char** argv, const LaunchPlan& plan);

// The words of ssh's command line, ssh first. `program` and `folder` are absolute; `settings` are
// NAME=VALUE.
std::vector<std::string> SshCommand(const LaunchNode& node, int ssh_port,
                                    const std::string& program, const std::string& folder,
                                    const std::vector<std::string>& settings,
                                    const std::vector<std::string>& arguments);

// As one word of a POSIX shell.
std::string ShellWord(std::string_view text);

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_HOST_LAUNCHER_H_
