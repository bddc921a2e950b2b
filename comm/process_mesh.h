// ProcessMesh: which rank sits where on which parallel axis. Pure arithmetic, no communication.
//
//   auto mesh = ProcessMesh::Create({{"tp", 2}, {"dp", 4}, {"pp", 2}});   // 16 ranks
//   mesh->Coordinate(/*rank=*/5, "dp");             // 2: tp is the fastest axis
//   mesh->GroupOf(/*rank=*/5, {"tp", "dp"});        // the 8 ranks of its pipeline stage, ascending
//
// The order is Megatron's default (tp fastest, then dp, then pp); further axes (cp, ep) join the
// list without changing the others. An axis that is not listed has size 1. Immutable, thread-safe.
#ifndef LATHE_COMM_PROCESS_MESH_H_
#define LATHE_COMM_PROCESS_MESH_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace lathe {

class ProcessMesh {
 public:
  struct Axis {
    std::string name;
    int size = 1;
  };

  // The mesh of one process: every axis has size 1.
  ProcessMesh() = default;

  // `axes`: fastest-varying first.
  // Errors: InvalidArgument if a size is below 1 or a name is repeated or empty.
  static absl::StatusOr<ProcessMesh> Create(std::vector<Axis> axes);

  const std::vector<Axis>& axes() const { return axes_; }

  // The product of the sizes.
  int world_size() const;

  // Size of an axis; 1 for an axis that the mesh does not name.
  int size(std::string_view axis) const;

  // Position of `rank` (0 <= rank < world_size()) along `axis`; 0 for an axis that the mesh does
  // not name.
  int Coordinate(int rank, std::string_view axis) const;

  // The ranks that share all of `rank`'s coordinates except those along `axes`, ascending; always
  // contains `rank`.
  std::vector<int> GroupOf(int rank, const std::vector<std::string>& axes) const;

 private:
  std::vector<Axis> axes_;
};

}  // namespace lathe

#endif  // LATHE_COMM_PROCESS_MESH_H_
