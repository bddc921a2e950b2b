#include <cstdint>
#include <vector>

#include "benchmark/benchmark.h"
#include "lathe/base/random.h"

namespace lathe {
namespace {

constexpr int64_t kCount = 1 << 20;

void BM_FillNormalFloat(benchmark::State& state) {
  const KeyedStream stream(42, "benchmark", "normal");
  std::vector<float> out(kCount);
  for (auto _ : state) stream.FillNormal(0, 0.02, 0, absl::MakeSpan(out));
  state.SetItemsProcessed(state.iterations() * kCount);
}
BENCHMARK(BM_FillNormalFloat);

void BM_FillUniformFloat(benchmark::State& state) {
  const KeyedStream stream(42, "benchmark", "uniform");
  std::vector<float> out(kCount);
  for (auto _ : state) stream.FillUniform(-1, 1, 0, absl::MakeSpan(out));
  state.SetItemsProcessed(state.iterations() * kCount);
}
BENCHMARK(BM_FillUniformFloat);

void BM_FillBernoulli(benchmark::State& state) {
  const KeyedStream stream(42, "benchmark", "mask");
  std::vector<uint8_t> out(kCount);
  for (auto _ : state) stream.FillBernoulli(0.9, 0, absl::MakeSpan(out));
  state.SetItemsProcessed(state.iterations() * kCount);
}
BENCHMARK(BM_FillBernoulli);

void BM_MakeStream(benchmark::State& state) {
  uint64_t step = 0;
  for (auto _ : state) benchmark::DoNotOptimize(KeyedStream(42, "dropout", {++step, 3, 7}));
}
BENCHMARK(BM_MakeStream);

}  // namespace
}  // namespace lathe
