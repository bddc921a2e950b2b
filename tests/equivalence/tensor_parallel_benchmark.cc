// Updates per second of one process with two threads, and of two tensor ranks with one each.
//
//   bazel run //tests/equivalence:tensor_parallel_benchmark
#include "ATen/Parallel.h"
#include "benchmark/benchmark.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/tests/equivalence/step_cost.h"

namespace lathe {
namespace {

constexpr int kUpdates = 5;

void Report(benchmark::State& state, const StepCost& cost) {
  state.SetIterationTime(cost.seconds);
  state.counters["tokens_per_second"] = static_cast<double>(kStepCostTokens) / cost.seconds;
}

void BM_OneProcess(benchmark::State& state) {
  at::set_num_threads(2);
  for (auto _ : state) {
    Report(state, MeasureSteps(*ParallelContext::SingleProcess(), {}, kUpdates));
  }
}

void BM_TwoTensorRanks(benchmark::State& state) {
  for (auto _ : state) {
    StepCost cost;
    RunThreadRanks(*ProcessMesh::Create({{"tp", 2}}), [&](const ParallelContext& context) {
      at::set_num_threads(1);  // of this rank's thread
      const StepCost mine =
          MeasureSteps(context, {.sequence_parallel = state.range(0) != 0}, kUpdates);
      if (context.rank() == 0) cost = mine;
    });
    Report(state, cost);
  }
}

BENCHMARK(BM_OneProcess)->UseManualTime()->Iterations(2)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_TwoTensorRanks)
    ->ArgName("sequence_parallel")
    ->Arg(0)
    ->Arg(1)
    ->UseManualTime()
    ->Iterations(2)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace lathe
