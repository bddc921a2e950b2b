#include "lathe/base/process_start.h"

#include <unistd.h>

#include "gtest/gtest.h"

namespace lathe {
namespace {

TEST(ProcessStartTest, CountsFromTheProcessNotFromMain) {
  const double first = SecondsSinceProcessStart();
  EXPECT_GE(first, 0.0);
  EXPECT_LT(first, 600.0);
  usleep(50000);
  const double second = SecondsSinceProcessStart();
  EXPECT_GE(second - first, 0.04);
  EXPECT_LT(second - first, 60.0);
}

}  // namespace
}  // namespace lathe
