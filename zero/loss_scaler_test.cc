#include "lathe/zero/loss_scaler.h"

#include <vector>

#include "gtest/gtest.h"

namespace lathe {
namespace {

// The scales after each of the updates.
std::vector<double> Scales(LossScaler scaler, const std::vector<bool>& overflows) {
  std::vector<double> scales;
  for (const bool overflow : overflows) {
    EXPECT_TRUE(scaler.Update(overflow).ok());
    scales.push_back(scaler.scale());
  }
  return scales;
}

// Expected: DeepSpeed 0.19.8's DynamicLossScaler, by hand along its source.
TEST(LossScalerTest, FollowsDeepSpeed) {
  const LossScaleSettings settings{
      .enabled = true, .initial_scale_power = 4, .loss_scale_window = 2, .hysteresis = 2};
  EXPECT_EQ(Scales(LossScaler(settings), {true, true, true}), (std::vector<double>{16, 8, 4}));
  // From the start two updates without an overflow lie behind the third.
  EXPECT_EQ(Scales(LossScaler(settings), {false, false, false, false, false}),
            (std::vector<double>{16, 16, 32, 32, 64}));
  // An overflow that only costs hysteresis starts the window again; a doubling gives it back.
  EXPECT_EQ(Scales(LossScaler(settings), {true, false, false, false, true, true}),
            (std::vector<double>{16, 16, 16, 32, 32, 16}));
}

TEST(LossScalerTest, ConsecutiveHysteresisComesBackAtOnce) {
  const LossScaleSettings settings{
      .enabled = true, .initial_scale_power = 4, .hysteresis = 2, .consecutive_hysteresis = true};
  EXPECT_EQ(Scales(LossScaler(settings), {true, false, true, true}),
            (std::vector<double>{16, 16, 16, 8}));
}

TEST(LossScalerTest, EndsAtTheSmallestScale) {
  LossScaler scaler(
      {.enabled = true, .initial_scale_power = 1, .hysteresis = 1, .min_loss_scale = 1});
  EXPECT_TRUE(scaler.Update(true).ok());
  EXPECT_EQ(scaler.scale(), 1);
  EXPECT_TRUE(scaler.Update(false).ok());
  const auto ended = scaler.Update(true);
  EXPECT_EQ(ended.status().code(), absl::StatusCode::kAborted);
}

TEST(LossScalerTest, AStaticScaleStays) {
  LossScaler scaler({.enabled = true, .loss_scale = 128});
  EXPECT_EQ(*scaler.Update(true), "");
  EXPECT_EQ(scaler.scale(), 128);
  scaler.Restore({.scale = 4});
  EXPECT_EQ(scaler.scale(), 128);
}

TEST(LossScalerTest, GoesOnFromAState) {
  const LossScaleSettings settings{
      .enabled = true, .initial_scale_power = 4, .loss_scale_window = 3};
  LossScaler one(settings), other(settings);
  for (const bool overflow : {true, true, false}) EXPECT_TRUE(one.Update(overflow).ok());
  other.Restore(one.state());
  other.Restore({});  // a checkpoint of another precision
  for (const bool overflow : {false, false, false, true, true}) {
    EXPECT_EQ(*one.Update(overflow), *other.Update(overflow));
    EXPECT_EQ(one.state(), other.state());
  }
}

}  // namespace
}  // namespace lathe
