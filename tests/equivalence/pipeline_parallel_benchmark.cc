// Updates per second of one process with two threads and of a pipeline of two ranks with one each,
// and how near 1F1B comes to its formula: the slowest stage's time · (m + p − 1) / m.
//
//   bazel run //tests/equivalence:pipeline_parallel_benchmark
#include <algorithm>
#include <mutex>

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
  const int num_micro_batches = static_cast<int>(state.range(0));
  at::set_num_threads(2);
  for (auto _ : state) {
    Report(state, MeasureSteps(*ParallelContext::SingleProcess(), {}, kUpdates, num_micro_batches));
  }
}

void BM_TwoPipelineRanks(benchmark::State& state) {
  const int num_micro_batches = static_cast<int>(state.range(0));
  for (auto _ : state) {
    std::mutex mutex;
    StepCost slowest;
    RunThreadRanks(*ProcessMesh::Create({{"pp", 2}}), [&](const ParallelContext& context) {
      at::set_num_threads(1);  // of this rank's thread
      const StepCost mine = MeasureSteps(context, {}, kUpdates, num_micro_batches);
      std::lock_guard<std::mutex> lock(mutex);
      slowest.seconds = std::max(slowest.seconds, mine.seconds);
      slowest.schedule_seconds = std::max(slowest.schedule_seconds, mine.schedule_seconds);
      slowest.stage_seconds = std::max(slowest.stage_seconds, mine.stage_seconds);
    });
    Report(state, slowest);
    state.counters["schedule_over_formula"] =
        slowest.schedule_seconds /
        (slowest.stage_seconds * (num_micro_batches + 1.0) / num_micro_batches);
  }
}

BENCHMARK(BM_OneProcess)->Arg(8)->UseManualTime()->Iterations(3)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_TwoPipelineRanks)
    ->Arg(8)
    ->UseManualTime()
    ->Iterations(3)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace lathe
