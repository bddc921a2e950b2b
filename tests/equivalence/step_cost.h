// What an update costs in time and memory under some layout: a Llama of 8 layers, 512 wide, with a
// vocabulary of 8,192, on samples of 512 tokens. For benchmarks and tests of memory.
//
//   MemoryMeter::Install();
//   const StepCost cost = MeasureSteps(*ParallelContext::SingleProcess(), {}, /*num_updates=*/3);
#ifndef LATHE_TESTS_EQUIVALENCE_STEP_COST_H_
#define LATHE_TESTS_EQUIVALENCE_STEP_COST_H_

#include <cstdint>

#include "lathe/comm/parallel_context.h"
#include "lathe/models/stage.h"

namespace lathe {

inline constexpr int64_t kStepCostTokens = 4 * 512;  // of an update

struct StepCost {
  double seconds = 0;           // of an update, the first not counted
  double schedule_seconds = 0;  // of them: forwards and backwards, without the optimizer
  // What this rank's stage takes for all micro batches when it never waits, beside the others'
  // doing the same: schedule_seconds ≥ the slowest stage's · (m + p − 1) / m.
  double stage_seconds = 0;
  // Of tensors, at most, in the counted updates and since the model was built: by the memory meter,
  // hence of all ranks where they are threads.
  int64_t peak_bytes = 0;
};

// Collective over the ranks of `context`. An update's tokens are dealt to the data-parallel ranks
// and `num_micro_batches`; a pipeline is cut by FLOPs and runs 1F1B.
StepCost MeasureSteps(const ParallelContext& context, StageOptions options, int num_updates,
                      int num_micro_batches = 1, int zero_stage = 0);

}  // namespace lathe

#endif  // LATHE_TESTS_EQUIVALENCE_STEP_COST_H_
