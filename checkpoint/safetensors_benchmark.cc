// How fast tensors come from and go to files in the page cache. Bytes are those in the file.

#include <unistd.h>

#include <cstdlib>
#include <string>

#include "ATen/ops/empty.h"
#include "ATen/ops/ones.h"
#include "benchmark/benchmark.h"
#include "lathe/base/logging.h"
#include "lathe/checkpoint/safetensors.h"
#include "lathe/checkpoint/safetensors_writer.h"

namespace lathe {
namespace {

constexpr int64_t kRows = 8192;
constexpr int64_t kColumns = 8192;

// A file of one [kRows, kColumns] tensor "w", removed at the end of the program.
std::string FileOf(at::ScalarType dtype) {
  static std::string paths[2];
  std::string& path = paths[dtype == at::kFloat];
  if (!path.empty()) return path;
  path = "/tmp/lathe_benchmark_" + std::to_string(getpid()) + "_" + c10::toString(dtype);
  CHECK(WriteSafetensorsFile(path, {{"w", at::ones({kRows, kColumns}, dtype)}}).ok());
  std::atexit([] {
    for (const std::string& path : paths) unlink(path.c_str());
  });
  return path;
}

void ReadInto(benchmark::State& state, at::ScalarType file_dtype, at::ScalarType dtype,
              const Box& box) {
  const SafetensorsFile file = *SafetensorsFile::Open(FileOf(file_dtype));
  const at::Tensor target = at::ones(box.length, dtype);
  for (auto _ : state) CHECK(file.Read("w", box, target).ok());
  state.SetBytesProcessed(state.iterations() * box.Volume() * c10::elementSize(file_dtype));
}

void BM_ReadSameDtype(benchmark::State& state) {
  ReadInto(state, at::kFloat, at::kFloat, Box::Whole({kRows, kColumns}));
}
BENCHMARK(BM_ReadSameDtype)->Unit(benchmark::kMillisecond);

void BM_ReadBFloat16IntoFloat(benchmark::State& state) {
  ReadInto(state, at::kBFloat16, at::kFloat, Box::Whole({kRows, kColumns}));
}
BENCHMARK(BM_ReadBFloat16IntoFloat)->Unit(benchmark::kMillisecond);

// One of so many column shards.
void BM_ReadColumns(benchmark::State& state) {
  ReadInto(state, at::kFloat, at::kFloat, {{0, 0}, {kRows, kColumns / state.range(0)}});
}
BENCHMARK(BM_ReadColumns)->Arg(2)->Arg(8)->Arg(64)->Unit(benchmark::kMillisecond);

// What a reader over a mapping does for comparison with BM_ReadSameDtype.
void BM_CopyFromMapping(benchmark::State& state) {
  const SafetensorsFile file = *SafetensorsFile::Open(FileOf(at::kFloat));
  const at::Tensor target = at::ones({kRows, kColumns});
  for (auto _ : state) target.copy_(*file.View("w"));
  state.SetBytesProcessed(state.iterations() * target.nbytes());
}
BENCHMARK(BM_CopyFromMapping)->Unit(benchmark::kMillisecond);

// Checksum and write, without the sync.
void Write(benchmark::State& state, at::ScalarType file_dtype, const Box& box) {
  const std::string path = "/tmp/lathe_benchmark_" + std::to_string(getpid()) + "_out";
  const SafetensorsLayout layout =
      *SafetensorsLayout::Create({{"w", file_dtype, {kRows, kColumns}}});
  const at::Tensor values = at::ones(box.length);
  const PosixFile file = *PosixFile::Create(path);
  CHECK(file.Allocate(layout.file_bytes()).ok());
  for (auto _ : state) {
    PiecewiseCrc32c checksum(layout.file_bytes());
    CHECK(layout.WriteBox(file, "w", box, values, checksum).ok());
    benchmark::DoNotOptimize(checksum.contribution());
  }
  state.SetBytesProcessed(state.iterations() * box.Volume() * c10::elementSize(file_dtype));
  unlink(path.c_str());
}

void BM_WriteSameDtype(benchmark::State& state) {
  Write(state, at::kFloat, Box::Whole({kRows, kColumns}));
}
BENCHMARK(BM_WriteSameDtype)->Unit(benchmark::kMillisecond);

void BM_WriteFloatAsBFloat16(benchmark::State& state) {
  Write(state, at::kBFloat16, Box::Whole({kRows, kColumns}));
}
BENCHMARK(BM_WriteFloatAsBFloat16)->Unit(benchmark::kMillisecond);

void BM_WriteColumns(benchmark::State& state) {
  Write(state, at::kFloat, {{0, 0}, {kRows, kColumns / state.range(0)}});
}
BENCHMARK(BM_WriteColumns)->Arg(2)->Arg(8)->Arg(64)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace lathe
