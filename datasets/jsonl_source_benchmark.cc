// Bytes a second of finding the lines of a file, and of reading its documents: to be compared with
// the tokenizer's own.

#include <cstdint>

#include "benchmark/benchmark.h"
#include "lathe/datasets/jsonl_source.h"

namespace lathe {
namespace {

constexpr char kFile[] = "third_party/texts/austen/train.jsonl";

void Open(benchmark::State& state) {
  int64_t bytes = 0;
  for (auto _ : state) bytes += JsonlSource::Open({kFile}, {})->num_bytes();
  state.SetBytesProcessed(bytes);
}
BENCHMARK(Open);

void Text(benchmark::State& state) {
  const JsonlSource source = *JsonlSource::Open({kFile}, {});
  int64_t bytes = 0;
  for (auto _ : state) {
    for (int64_t i = 0; i < source.size(); ++i) benchmark::DoNotOptimize(source.Text(i));
    bytes += source.num_bytes();
  }
  state.SetBytesProcessed(bytes);
}
BENCHMARK(Text);

}  // namespace
}  // namespace lathe
