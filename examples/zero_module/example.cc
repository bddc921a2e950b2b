// A client of Lathe that has its own LibTorch model: a torch::nn::Sequential learns y = sin(3x + 1)
// on two data-parallel ranks, with ZeRO stages 0 to 3. At stages 0 to 2 the module runs as it
// always did; at stage 3 each of its parts runs through a UnitRunner, which gathers its weights.
// The ranks are threads here; with processes, ParallelContext::Create takes a ProcessMesh and a TCP
// store instead (lathe/comm/gloo/gloo_backend.h).
//
// Prints each stage's loss, which are equal to the bit, and the bytes that a rank keeps.
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "ATen/core/grad_mode.h"
#include "ATen/ops/linspace.h"
#include "ATen/ops/sin.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/block_runner.h"
#include "lathe/layers/memory_meter.h"
#include "lathe/zero/module_parameters.h"
#include "lathe/zero/unit_runner.h"
#include "lathe/zero/zero_optimizer.h"
#include "torch/nn/modules/activation.h"
#include "torch/nn/modules/container/sequential.h"
#include "torch/nn/modules/linear.h"

namespace {

constexpr int kRanks = 2, kLayers = 4, kWidth = 512, kSamples = 128, kUpdates = 60;

// The same start on every rank, without a generator that ranks as threads would share.
void Fill(torch::nn::Module& module) {
  at::NoGradGuard no_grad;
  for (at::Tensor& weight : module.parameters()) {
    const auto n = static_cast<double>(weight.numel());
    weight.copy_(at::linspace(1, 1000 + n, weight.numel()).sin().view(weight.sizes()).div(20));
  }
}

struct Outcome {
  double loss = 0;
  double kept_bytes = 0;  // of one rank
};

Outcome Train(const lathe::ParallelContext& context, int stage) {
  const int64_t before = lathe::MemoryMeter::current_bytes();
  context.World().Barrier();
  torch::nn::Sequential module;
  module->push_back(torch::nn::Linear(1, kWidth));
  for (int layer = 0; layer < kLayers; ++layer) {
    module->push_back(torch::nn::Linear(kWidth, kWidth));
    module->push_back(torch::nn::Tanh());
  }
  module->push_back(torch::nn::Linear(kWidth, 1));
  Fill(*module);

  std::vector<std::pair<std::string, at::Tensor>> named;
  for (const auto& item : module->named_parameters()) named.emplace_back(item.key(), item.value());
  lathe::ModuleParameters parameters(named);
  // "3.weight" is of part 3: a unit that is gathered at once.
  std::vector<std::vector<lathe::Parameter*>> of_part(module->size());
  for (lathe::Parameter* parameter : parameters.all()) {
    parameter->set_unit(std::stoi(parameter->name()));
    of_part[parameter->unit()].push_back(parameter);
  }
  lathe::ZeroUnits units({.persistence_threshold = 0});
  lathe::PlainRunner plain;
  lathe::UnitRunner runner(units, plain);
  lathe::ZeroOptimizer optimizer(parameters.all(), {.stage = stage}, context, &units);

  // Each rank has its half of the samples.
  const int64_t mine = kSamples / kRanks;
  const at::Tensor x =
      at::linspace(-1, 1, kSamples).narrow(0, context.rank() * mine, mine).unsqueeze(1);
  const at::Tensor y = at::sin(x * 3 + 1);
  Outcome outcome;
  for (int update = 0; update < kUpdates; ++update) {
    optimizer.BeginUpdate();
    optimizer.BeginMicroBatch(0, /*last=*/true);
    at::Tensor h = x;
    int part = 0;
    for (const auto& child : *module) {
      const auto forward = [&child](const lathe::TensorList& in) {
        return lathe::TensorList{const_cast<torch::nn::AnyModule&>(child).forward(in[0])};
      };
      // Below stage 3 the runner only calls.
      h = runner.Run(part, of_part[part], {h}, forward)[0];
      ++part;
    }
    // Divided by the samples of all ranks: gradients are summed over them.
    at::Tensor loss = (h - y).square().sum() / kSamples;
    lathe::RunBackward({loss}, {{}});
    optimizer.Step(/*learning_rate=*/1e-3);
    loss = loss.detach();
    context.World().AllReduce(loss);
    outcome.loss = loss.item<double>();
  }
  context.World().Barrier();
  outcome.kept_bytes = static_cast<double>(lathe::MemoryMeter::current_bytes() - before) / kRanks;
  context.World().Barrier();
  return outcome;
}

}  // namespace

int main() {
  lathe::MemoryMeter::Install();
  std::vector<Outcome> outcomes(4);
  for (int stage = 0; stage < 4; ++stage) {
    lathe::RunThreadRanks(*lathe::ProcessMesh::Create({{"dp", kRanks}}),
                          [&](const lathe::ParallelContext& context) {
                            const Outcome mine = Train(context, stage);
                            if (context.rank() == 0) outcomes[stage] = mine;
                          });
    std::printf("ZeRO stage %d: loss %.9f, %.1f MB kept by a rank\n", stage, outcomes[stage].loss,
                outcomes[stage].kept_bytes / 1e6);
    const bool learned = outcomes[stage].loss < 0.1 && outcomes[stage].loss == outcomes[0].loss;
    if (!learned || (stage > 0 && outcomes[stage].kept_bytes >= outcomes[stage - 1].kept_bytes)) {
      std::fprintf(stderr, "example: this stage did not do what the one before did, with less\n");
      return 1;
    }
  }
  return 0;
}
