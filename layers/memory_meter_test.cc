#include "lathe/layers/memory_meter.h"

#include "ATen/ops/empty.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

TEST(MemoryMeterTest, CountsLiveAndPeakBytes) {
  MemoryMeter::Install();
  MemoryMeter::Install();
  MemoryMeter::ResetPeak();
  const int64_t before = MemoryMeter::current_bytes();
  {
    at::Tensor a = at::empty({1 << 20}, at::kFloat);
    EXPECT_EQ(MemoryMeter::current_bytes() - before, 4 << 20);
    at::Tensor b = at::empty({1 << 20}, at::kByte);
    a = at::Tensor();
    EXPECT_EQ(MemoryMeter::current_bytes() - before, 1 << 20);
  }
  EXPECT_EQ(MemoryMeter::current_bytes(), before);
  EXPECT_EQ(MemoryMeter::peak_bytes() - before, 5 << 20);
  MemoryMeter::ResetPeak();
  EXPECT_EQ(MemoryMeter::peak_bytes(), before);
}

TEST(MemoryMeterTest, ResidentMemoryIsMeasuredInBytes) {
  EXPECT_GT(PeakResidentBytes(), int64_t{5} << 20);
  EXPECT_LT(PeakResidentBytes(), int64_t{8} << 30);
}

}  // namespace
}  // namespace lathe
