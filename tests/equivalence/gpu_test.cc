// A GPU trains as the CPU does: the same losses, norms and weights up to fp32 rounding; and as it
// did before, to the same bits.
#include "c10/core/Device.h"
#include "gtest/gtest.h"
#include "lathe/comm/nccl/nccl_backend.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/tests/equivalence/small_training.h"

namespace lathe {
namespace {

class GpuTest : public testing::TestWithParam<const char*> {};

TEST_P(GpuTest, TrainsAsTheCpuDoes) {
  if (NumGpus() == 0) GTEST_SKIP() << "no GPU on this machine";
  auto cpu = ParallelContext::SingleProcess();
  auto gpu = ParallelContext::SingleProcess(c10::Device(c10::kCUDA, 0));
  for (bool recompute : {false, true}) {
    const SmallTraining training{
        .model = GetParam(), .dtype = at::kFloat, .accumulation = 2, .recompute = recompute};
    const Differences d = Difference(TrainSmall(*gpu, training), TrainSmall(*cpu, training));
    EXPECT_LT(d.losses, 1e-5);
    EXPECT_LT(d.grad_norms, 1e-4);
    EXPECT_LT(d.gradients, 1e-3);
    // AdamW divides by the root of the squared gradient: small gradients show their rounding.
    EXPECT_LT(d.weights, 1e-2);
  }
}

TEST_P(GpuTest, TheSameBitsAgain) {
  if (NumGpus() == 0) GTEST_SKIP() << "no GPU on this machine";
  UseGpu(0);
  auto gpu = ParallelContext::SingleProcess(c10::Device(c10::kCUDA, 0));
  // Few tokens for many positions: their gradients meet in the same rows of the table.
  const SmallTraining training{.model = GetParam(), .dtype = at::kFloat, .num_tokens = 64};
  const Differences d = Difference(TrainSmall(*gpu, training), TrainSmall(*gpu, training));
  EXPECT_EQ(d.losses, 0);
  EXPECT_EQ(d.grad_norms, 0);
  EXPECT_EQ(d.weights, 0);
}

INSTANTIATE_TEST_SUITE_P(Families, GpuTest, testing::Values("qwen2", "llama"));

}  // namespace
}  // namespace lathe
