// A tensor rank's memory, by the meter.
#include <cstdint>
#include <cstdio>

#include "gtest/gtest.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/layers/memory_meter.h"
#include "lathe/tests/equivalence/step_cost.h"

namespace lathe {
namespace {

// Weights, gradients, optimizer states and, with the sequence split, what is kept for backward: all
// are halved; a region's whole input, while it is used, is not.
TEST(TensorParallelMemoryTest, TwoRanksNeedLittleMoreThanHalfEach) {
  MemoryMeter::Install();
  const int64_t before = MemoryMeter::current_bytes();
  const auto one = static_cast<double>(
      MeasureSteps(*ParallelContext::SingleProcess(), {}, /*num_updates=*/1).peak_bytes);
  ASSERT_EQ(MemoryMeter::current_bytes(), before);
  double two = 0;
  RunThreadRanks(*ProcessMesh::Create({{"tp", 2}}), [&](const ParallelContext& context) {
    const StepCost cost = MeasureSteps(context, {.sequence_parallel = true}, /*num_updates=*/1);
    if (context.rank() == 0) two = static_cast<double>(cost.peak_bytes);
  });
  std::printf("one process %.0f MB, each of two ranks %.0f MB: %.3f\n", one / 1e6, two / 2e6,
              two / 2 / one);
  EXPECT_LT(two / 2 / one, 0.60);
}

}  // namespace
}  // namespace lathe
