#include "lathe/tensor_parallel/exp_rows_kernel.h"

#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

namespace lathe {
namespace {

// Every length around the vector widths and the partial sums, against double precision.
TEST(ExpRowsKernelTest, EqualsDoublePrecision) {
  for (int64_t columns : {1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 100, 4095, 4096, 4097, 9001}) {
    std::vector<float> logits(3 * columns), shift(3), sum(3);
    for (int64_t i = 0; i < 3 * columns; ++i) {
      // From 0 down to about −100, unevenly; all distinct.
      logits[i] =
          20.0f - 120.0f * static_cast<float>((i * 7919) % (3 * columns)) / (3.0f * columns);
    }
    const std::vector<float> before = logits;
    RowMax(logits.data(), 0, 3, columns, shift.data());
    ExpRows(logits.data(), 0, 3, columns, shift.data(), sum.data());
    for (int64_t r = 0; r < 3; ++r) {
      double expected_sum = 0, max = -1e30;
      for (int64_t c = 0; c < columns; ++c) max = std::max<double>(max, before[r * columns + c]);
      EXPECT_EQ(shift[r], static_cast<float>(max));
      for (int64_t c = 0; c < columns; ++c) {
        const double e = std::exp(static_cast<double>(before[r * columns + c] - shift[r]));
        expected_sum += e;
        EXPECT_NEAR(logits[r * columns + c], e, 3e-7 * e + 2e-38) << columns << " " << c;
      }
      EXPECT_NEAR(sum[r], expected_sum, 1e-6 * expected_sum) << columns;
    }
  }
}

TEST(ExpRowsKernelTest, OnlyTheGivenRows) {
  std::vector<float> logits = {1, 2, 3, 4, 5, 6}, shift = {0, 4, 0}, sum = {-1, -1, -1};
  ExpRows(logits.data(), 1, 2, 2, shift.data(), sum.data());
  EXPECT_EQ(logits[0], 1);
  EXPECT_EQ(logits[5], 6);
  EXPECT_EQ(sum[0], -1);
  EXPECT_EQ(sum[2], -1);
  EXPECT_FLOAT_EQ(logits[3], 1);
}

TEST(ExpRowsKernelTest, NonFiniteLogitsAreNotHidden) {
  const float nan = std::numeric_limits<float>::quiet_NaN(),
              infinity = std::numeric_limits<float>::infinity();
  for (float bad : {nan, infinity}) {
    for (int at : {0, 5, 19}) {
      std::vector<float> logits(20, 1.0f);
      logits[at] = bad;
      float shift = 0, sum = 0;
      RowMax(logits.data(), 0, 1, 20, &shift);
      EXPECT_FALSE(std::isfinite(shift));
      ExpRows(logits.data(), 0, 1, 20, &shift, &sum);
      // inf − inf is NaN: the loss, and so the step, is seen to be broken.
      EXPECT_TRUE(std::isnan(sum)) << bad << " at " << at;
    }
  }
  std::vector<float> logits = {-infinity, 0};
  float shift = 0, sum = 0;
  ExpRows(logits.data(), 0, 1, 2, &shift, &sum);
  EXPECT_FLOAT_EQ(sum, 1);
}

}  // namespace
}  // namespace lathe
