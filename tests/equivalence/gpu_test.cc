// A GPU trains as the CPU does: the same losses, norms and weights up to rounding, with every
// optimizer, in every precision, with weights and states in the host's memory; and as it did
// before, to the same bits.
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "c10/core/Device.h"
#include "gtest/gtest.h"
#include "lathe/comm/nccl/nccl_backend.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/tests/equivalence/small_training.h"
#include "lathe/zero/optim_by_name.h"

namespace lathe {
namespace {

class OnGpu {
 protected:
  // Whether there is one. LibTorch looks once whether cuBLAS is deterministic, at its first
  // product.
  static bool TakeGpu() {
    if (NumGpus() == 0) return false;
    UseGpu(0);
    return true;
  }
  static Outcome TrainOnGpu(const SmallTraining& training) {
    return TrainSmall(*ParallelContext::SingleProcess(c10::Device(c10::kCUDA, 0)), training);
  }
  static Outcome TrainOnCpu(const SmallTraining& training) {
    return TrainSmall(*ParallelContext::SingleProcess(), training);
  }
  static void Print(const std::string& what, const Differences& d) {
    std::printf("%s: losses %.1e, norms %.1e, first gradients %.1e, weights %.1e\n", what.c_str(),
                d.losses, d.grad_norms, d.first_gradients, d.weights);
  }
};

class GpuTest : public OnGpu, public testing::TestWithParam<const char*> {};

TEST_P(GpuTest, TrainsAsTheCpuDoes) {
  if (!TakeGpu()) GTEST_SKIP() << "no GPU on this machine";
  for (bool recompute : {false, true}) {
    const SmallTraining training{
        .model = GetParam(), .dtype = at::kFloat, .accumulation = 2, .recompute = recompute};
    const Differences d = Difference(TrainOnGpu(training), TrainOnCpu(training));
    Print(recompute ? "recompute" : "fp32", d);
    EXPECT_LT(d.losses, 1e-5);
    EXPECT_LT(d.grad_norms, 1e-4);
    EXPECT_LT(d.gradients, 1e-3);
    // AdamW divides by the root of the squared gradient: small gradients show their rounding.
    EXPECT_LT(d.weights, 1e-2);
  }
}

TEST_P(GpuTest, TrainsInHalfPrecision) {
  if (!TakeGpu()) GTEST_SKIP() << "no GPU on this machine";
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    const SmallTraining training{
        .model = GetParam(), .dtype = dtype, .accumulation = 2, .num_layers = 2, .vocab_size = 135};
    const Differences d = Difference(TrainOnGpu(training), TrainOnCpu(training));
    Print(at::toString(dtype), d);
    // A bfloat16 has 8 bits: roundings of 0.4 % that the two take elsewhere.
    EXPECT_LT(d.losses, 5e-3);
    EXPECT_LT(d.grad_norms, 0.1);
  }
}

TEST_P(GpuTest, TheSameBitsAgain) {
  if (!TakeGpu()) GTEST_SKIP() << "no GPU on this machine";
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    // Few tokens for many positions: their gradients meet in the same rows of the table.
    const SmallTraining training{
        .model = GetParam(), .dtype = dtype, .num_layers = 2, .vocab_size = 135, .num_tokens = 64};
    const Differences d = Difference(TrainOnGpu(training), TrainOnGpu(training));
    EXPECT_EQ(d.losses, 0);
    EXPECT_EQ(d.grad_norms, 0);
    EXPECT_EQ(d.weights, 0);
  }
}

TEST_P(GpuTest, OffloadTrainsAsTheCpuDoes) {
  if (!TakeGpu()) GTEST_SKIP() << "no GPU on this machine";
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    SmallTraining training{
        .model = GetParam(), .dtype = dtype, .accumulation = 2, .num_layers = 2, .vocab_size = 135};
    const Outcome cpu = TrainOnCpu(training);
    for (const bool pinned : {true, false}) {
      for (const bool states : {true, false}) {
        for (const bool weights : {true, false}) {
          if (!states && !weights) continue;
          training.zero_stage = weights ? 3 : 1;
          training.offload_states = {.to_host = states, .pin_memory = pinned};
          training.offload_weights = {.to_host = weights, .pin_memory = pinned};
          const Differences d = Difference(TrainOnGpu(training), cpu);
          Print(absl::StrCat(at::toString(dtype), pinned ? " pinned" : "", states ? " states" : "",
                             weights ? " weights" : ""),
                d);
          const bool half = dtype == at::kBFloat16;
          EXPECT_LT(d.losses, half ? 5e-3 : 1e-5);
          // Biases of keys have no gradient but rounding, whose sign AdamW follows: in half
          // precision they say nothing.
          if (!half) EXPECT_LT(d.weights, 1e-2);
        }
      }
    }
  }
}

TEST_P(GpuTest, GoesOnFromACheckpointToTheSameBits) {
  if (!TakeGpu()) GTEST_SKIP() << "no GPU on this machine";
  for (const bool offloads : {false, true}) {
    SmallTraining training{.model = GetParam(), .dtype = at::kBFloat16};
    training.num_layers = 2;
    training.vocab_size = 135;
    training.offload_states = {.to_host = offloads};
    if (offloads) training.zero_stage = 1;
    training.output_dir = absl::StrCat(testing::TempDir(), "/", GetParam(), offloads);
    std::filesystem::create_directories(training.output_dir);
    const Outcome whole = TrainOnGpu(training);
    training.resume_from = training.output_dir + "/checkpoint-3";
    training.output_dir += "_more";
    std::filesystem::create_directories(training.output_dir);
    const Differences d = Difference(TrainOnGpu(training), whole);
    EXPECT_EQ(d.losses, 0);
    EXPECT_EQ(d.weights, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, GpuTest, testing::Values("qwen2", "llama"));

struct Optimizer {
  const char* name;
  const char* optim;
  const char* args = "";
  double learning_rate = 5e-3;
  // Of the weights. A sign, a code of 8 bits or a bfloat16 turns over where rounding differs.
  double bar = 1e-2;
};
constexpr Optimizer kOptimizers[] = {{"adam", "adam"},
                                     {"sgd", "sgd", "", 0.5},
                                     {"nesterov", "sgd", "momentum=0.9,nesterov=true", 0.1},
                                     {"lion", "lion_32bit", "", 5e-4, 0.1},
                                     {"adamw_bf16", "adamw_torch", "state_dtype=bf16", 5e-3, 0.1},
                                     {"adamw_8bit", "adamw_8bit", "", 5e-3, 0.1},
                                     {"lion_8bit", "lion_8bit", "", 5e-4, 0.1},
                                     {"muon", "muon", "", 2e-2, 0.1},
                                     {"adafactor", "adafactor"}};

class GpuOptimizerTest : public OnGpu, public testing::TestWithParam<Optimizer> {};

TEST_P(GpuOptimizerTest, TrainsAsTheCpuDoes) {
  if (!TakeGpu()) GTEST_SKIP() << "no GPU on this machine";
  for (const bool offloads : {false, true}) {
    // Without biases, of which some have a gradient of nothing but rounding.
    SmallTraining training{.model = "llama",
                           .dtype = at::kFloat,
                           .max_steps = 4,
                           .learning_rate = GetParam().learning_rate,
                           .max_grad_norm = 0.5};
    training.rules = RulesByName(GetParam().optim, GetParam().args, {}).value();
    training.num_layers = 2;
    training.vocab_size = 135;
    const Outcome cpu = TrainOnCpu(training);
    if (offloads) training.zero_stage = 1;
    training.offload_states = {.to_host = offloads};
    const Differences d = Difference(TrainOnGpu(training), cpu);
    Print(absl::StrCat(GetParam().name, offloads ? " offloaded" : ""), d);
    EXPECT_LT(d.losses, 1e-3);
    EXPECT_LT(d.weights, GetParam().bar);
  }
}

INSTANTIATE_TEST_SUITE_P(Optimizers, GpuOptimizerTest, testing::ValuesIn(kOptimizers),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace lathe
