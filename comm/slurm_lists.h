// Slurm's two short notations, as they stand in a job's environment.
//
//   FirstSlurmNode("node[03-05,9],login1")   -> "node03"     SLURM_STEP_NODELIST
//   SlurmCountOfNode("4(x2),3", 2)           -> 3            SLURM_STEP_TASKS_PER_NODE
//
// Pure functions: call from any thread.
#ifndef LATHE_COMM_SLURM_LISTS_H_
#define LATHE_COMM_SLURM_LISTS_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace lathe {

// The list's first node: of each bracket the first number, with its leading zeros. Errors:
// InvalidArgument for an empty list or brackets that do not pair.
absl::StatusOr<std::string> FirstSlurmNode(std::string_view node_list);

// Tasks on node number `node`. Errors: InvalidArgument for another notation, or too few nodes.
absl::StatusOr<int> SlurmCountOfNode(std::string_view counts, int node);

}  // namespace lathe

#endif  // LATHE_COMM_SLURM_LISTS_H_
