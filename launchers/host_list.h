// Which machines, and which of their slots: DeepSpeed's hostfile and its --include and --exclude.
//
//   # hostfile                  ReadHostfile  -> {node1: 0, 1, 2, 3}, {node2: 0, 1}
//   node1 slots=4               --include node1:0,2@node2   -> {node1: 0, 2}, {node2: 0, 1}
//   node2 slots=2  # login      --exclude node2:1           -> {node1: 0, 1, 2, 3}, {node2: 0}
//
// A slot is a rank; where the machine has GPUs, on the GPU of that number. The hostfile's order
// holds, and slots are in order. Pure functions but for the file.
#ifndef LATHE_LAUNCHERS_HOST_LIST_H_
#define LATHE_LAUNCHERS_HOST_LIST_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace lathe {

struct HostSlots {
  std::string host;
  std::vector<int> slots;
};

// Errors, with the line's number: a line that is not `host slots=N`, a host that is there twice;
// no host at all.
absl::StatusOr<std::vector<HostSlots>> ParseHostfile(std::string_view text);
absl::StatusOr<std::vector<HostSlots>> ReadHostfile(const std::string& path);

// HOST[:SLOT,SLOT...]@HOST...: a host without slots means all of them; a host that is named twice,
// all that is named; a host left without slots is left out. "" asks for nothing.
// Errors: InvalidArgument when both are given, when a host or slot is not in `hosts`, when nothing
// is left.
absl::StatusOr<std::vector<HostSlots>> FilterHosts(const std::vector<HostSlots>& hosts,
                                                   std::string_view include,
                                                   std::string_view exclude);

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_HOST_LIST_H_
