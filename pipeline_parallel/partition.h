// Which of a model's layers each stage of a pipeline holds, as pure functions.
//
//   absl::StatusOr<LayerPartition> partition = PartitionLayers(
//       {.num_blocks = 24, .block_cost = 1, .head_cost = 2.5, .num_ranks = 4});
//   partition->boundaries;        // {0, 7, 14, 21, 26}: see below
//
// A model is a list of layers: 0 the embedding, 1 to num_blocks the blocks, num_blocks + 1 the head
// (with the final norm). Stage s holds the layers boundaries[s] to boundaries[s + 1] − 1; rank r
// holds the stages r, r + num_ranks, … Thread-safe.
#ifndef LATHE_PIPELINE_PARALLEL_PARTITION_H_
#define LATHE_PIPELINE_PARALLEL_PARTITION_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace lathe {

struct PartitionOptions {
  int num_blocks = 0;
  // In any unit, the same for both: FLOPs of one token. The embedding costs nothing.
  double block_cost = 1;
  double head_cost = 0;
  int num_ranks = 1;
  // Above 0: every stage has so many blocks, and a rank as many stages as that makes (Megatron's
  // num_layers_per_virtual_pipeline_stage).
  int num_layers_per_virtual_stage = 0;
  // "flops": the slowest stage is as fast as can be. "even": as many blocks in each. Otherwise a
  // pattern, as Megatron's: E the embedding, t a block, L the head, | between stages, *N repeats
  // what is before it, a letter or a group in parentheses: "Ett|t*3|(t|)*2tL".
  std::string layout = "flops";
};

struct LayerPartition {
  std::vector<int> boundaries;  // num_ranks * num_chunks + 1 of them, from 0 to num_blocks + 2
  int num_chunks = 1;
};

// "flops" and "even" give every stage at least one layer besides the embedding; a pattern may not.
// Errors: InvalidArgument saying which number to change: too few blocks, a number that does not
// divide, a pattern that does not parse or has another number of blocks or stages.
absl::StatusOr<LayerPartition> PartitionLayers(const PartitionOptions& options);

}  // namespace lathe

#endif  // LATHE_PIPELINE_PARALLEL_PARTITION_H_
