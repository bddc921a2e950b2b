// What a collective costs that moves little: a GPU's all-gather with itself.
#include <chrono>
#include <cstdint>
#include <memory>

#include "ATen/core/Tensor.h"
#include "ATen/ops/empty.h"
#include "benchmark/benchmark.h"
#include "lathe/comm/nccl/nccl_backend.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/comm/rendezvous.h"

namespace lathe {
namespace {

void AllGather(benchmark::State& state) {
  if (NumGpus() == 0) {
    state.SkipWithError("no GPU on this machine");
    return;
  }
  const c10::Device gpu(c10::kCUDA, 0);
  const std::unique_ptr<Backend> backend =
      ConnectNccl(MakeThreadStore(), std::chrono::seconds(60), gpu)("world", {0}, 0);
  const at::TensorOptions bytes = at::TensorOptions(gpu).dtype(at::kByte);
  const at::Tensor in = at::empty({state.range(0)}, bytes);
  at::Tensor out = at::empty({state.range(0)}, bytes);
  for (auto _ : state) backend->AllGather(in, out);
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(AllGather)->Arg(int64_t{1} << 12)->Arg(int64_t{1} << 26)->UseRealTime();

}  // namespace
}  // namespace lathe
