// MemoryPlan: how much memory each rank of a run will take, before anything is allocated.
//
//   ABSL_ASSIGN_OR_RETURN(const RunPlan run, MakeRunPlan(flags, world_size));
//   ABSL_ASSIGN_OR_RETURN(const MemoryPlan memory, PlanMemory(run, world_size));
//   std::fputs(memory.Table().c_str(), stdout);
//
// No formulas: the run's own code is rehearsed, the model's and the optimizer's, on the meta
// device, where operators make shapes and no data, with ranks beside it that are not there. So
// whatever shapes memory (layout, stage, recomputation, schedule, an adapter's frozen weights)
// counts as it is written. What is counted is tensors' bytes, as lathe/layers/memory_meter.h
// measures them; not the program, the texts' tokens, and what transports and kernels take by
// themselves.
//
// Thread rule: one at a time in a process.
#ifndef LATHE_LAUNCHERS_MEMORY_PLAN_H_
#define LATHE_LAUNCHERS_MEMORY_PLAN_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lathe/launchers/run_plan.h"

namespace lathe {

// Bytes of one rank.
struct RankMemory {
  // Kept from update to update, what ZeRO deals out to other ranks not included.
  int64_t parameters = 0, gradients = 0, masters = 0, optimizer_state = 0;
  // Kept between forward and backward, of all micro batches in flight.
  int64_t activations = 0;
  // In passing, on top of what is kept at that time: within the head and the loss; and the most of
  // anything else (a block's products, gathered units, buckets on their way).
  int64_t head_and_loss = 0, buckets_and_products = 0;
  int64_t peak = 0;  // of all at once
};

struct MemoryPlan {
  // By pipeline rank; tensor- and data-parallel ranks are alike.
  std::vector<RankMemory> stages;

  int64_t peak() const;  // of the largest
  // For people: a line per stage.
  std::string Table() const;
};

// Errors: what BuildStage says; Internal where a rehearsed operator fails.
absl::StatusOr<MemoryPlan> PlanMemory(const RunPlan& run, int world_size);

// "8GB", "7.5 GiB", "500MB" or a number of bytes. Errors: anything else.
absl::StatusOr<int64_t> ParseMemorySize(std::string_view text);

// FailedPrecondition if a rank of this run takes more than --memory_limit, with the cheapest
// changes that fit. `memory`: PlanMemory's of this run; its error is returned. OK without the flag.
absl::Status CheckMemoryLimit(const RunPlan& run, const absl::StatusOr<MemoryPlan>& memory,
                              int world_size);

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_MEMORY_PLAN_H_
