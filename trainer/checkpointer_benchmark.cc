// How long a save of about 1 GB of state stops training: written in place, and in the background
// with one second of work for all threads between the save and the next update. Files go below
// TMPDIR (default /tmp).
//
//   bazel run //trainer:checkpointer_benchmark

#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "ATen/ops/empty.h"
#include "ATen/ops/mm.h"
#include "ATen/ops/ones.h"
#include "absl/strings/str_cat.h"
#include "benchmark/benchmark.h"
#include "lathe/base/logging.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/layers/parameter.h"
#include "lathe/trainer/checkpointer.h"
#include "lathe/zero/zero_optimizer.h"

namespace lathe {
namespace {

// 21 matrices of [4096, 1024]: weights and two AdamW states in fp32 are 1.06 GB.
constexpr int kMatrices = 21;
constexpr int64_t kRows = 4096, kColumns = 1024;

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Products of matrices, for about so many seconds.
void Work(double seconds) {
  const at::Tensor a = at::ones({1024, 1024}, at::kFloat);
  for (const Clock::time_point start = Clock::now(); SecondsSince(start) < seconds;) at::mm(a, a);
}

void Save(benchmark::State& state, bool async_save) {
  std::vector<std::unique_ptr<Parameter>> parameters;
  std::vector<Parameter*> pointers;
  for (int i = 0; i < kMatrices; ++i) {
    const std::vector<int64_t> shape = {kRows, kColumns};
    parameters.push_back(std::make_unique<Parameter>(
        absl::StrCat("model.layers.", i, ".mlp.up_proj.weight"), shape, ShardSpec::Whole(shape),
        at::empty(shape, at::kFloat), Initializer::Normal(0.02)));
    parameters.back()->Initialize(1);
    pointers.push_back(parameters.back().get());
  }
  const auto context = ParallelContext::SingleProcess();
  ZeroOptimizer optimizer(pointers, {}, *context);
  const std::string folder =
      std::filesystem::temp_directory_path() / absl::StrCat("lathe_benchmark_", getpid());
  const auto checkpointer = *Checkpointer::Create(
      {.output_dir = folder, .save_total_limit = 1, .async_save = async_save}, optimizer, *context);
  TrainerState trainer_state;
  for (auto _ : state) {
    ++trainer_state.global_step;
    const Clock::time_point start = Clock::now();
    checkpointer->BeginSave(trainer_state, {});
    if (!async_save) CHECK(checkpointer->FinishSave().ok());
    double seconds = SecondsSince(start);
    if (async_save) {
      Work(1);
      const Clock::time_point update = Clock::now();
      checkpointer->WaitForCopy();
      seconds += SecondsSince(update);
      CHECK(checkpointer->FinishSave().ok());
    }
    state.SetIterationTime(seconds);
  }
  std::filesystem::remove_all(folder);
}

void BM_SaveInPlace(benchmark::State& state) { Save(state, /*async_save=*/false); }
BENCHMARK(BM_SaveInPlace)->Unit(benchmark::kMillisecond)->UseManualTime()->Iterations(5);

// BeginSave, and what is left to wait for before the update.
void BM_StallOfAsyncSave(benchmark::State& state) { Save(state, /*async_save=*/true); }
BENCHMARK(BM_StallOfAsyncSave)->Unit(benchmark::kMillisecond)->UseManualTime()->Iterations(5);
BENCHMARK(BM_StallOfAsyncSave)
    ->Name("BM_StallOfTheFirstAsyncSave")
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime()
    ->Iterations(1);

}  // namespace
}  // namespace lathe
