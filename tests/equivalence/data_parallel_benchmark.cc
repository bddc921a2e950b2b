// Updates per second of one process with two threads, and of two data-parallel ranks with one each
// under every stage of ZeRO.
//
//   bazel run //tests/equivalence:data_parallel_benchmark
#include "ATen/Parallel.h"
#include "benchmark/benchmark.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/tests/equivalence/step_cost.h"

namespace lathe {
namespace {

constexpr int kUpdates = 4;

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

void BM_TwoDataRanks(benchmark::State& state) {
  for (auto _ : state) {
    StepCost cost;
    RunThreadRanks(*ProcessMesh::Create({{"dp", 2}}), [&](const ParallelContext& context) {
      at::set_num_threads(1);  // of this rank's thread
      const StepCost mine = MeasureSteps(context, {}, kUpdates, /*num_micro_batches=*/1,
                                         static_cast<int>(state.range(0)));
      if (context.rank() == 0) cost = mine;
    });
    Report(state, cost);
  }
}

BENCHMARK(BM_OneProcess)->UseManualTime()->Iterations(2)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_TwoDataRanks)
    ->ArgName("zero_stage")
    ->Arg(0)
    ->Arg(1)
    ->Arg(2)
    ->Arg(3)
    ->UseManualTime()
    ->Iterations(2)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace lathe
