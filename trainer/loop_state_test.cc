#include "lathe/trainer/loop_state.h"

#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

LoopState Example() {
  return {.total_loss = 0.1 + 0.2,
          .loss_since_log = 1e-300,
          .steps_since_log = 3,
          .last_logged_step = 40,
          .last_grad_norm = 1.0 / 3,
          .last_learning_rate = 5e-5,
          .nonfinite_steps = 7,
          .nonfinite_in_a_row = 2,
          .last_epoch_end_step = 21,
          .evaluation_due = 1,
          .save_due = 1,
          .loss_scale = {.scale = 4096, .hysteresis = 2, .updates = 41, .last_overflow = 5},
          .overflows = 3,
          .optimizer = "lion"};
}

TEST(LoopStateTest, ComesBackToTheBit) {
  const auto back = LoopState::FromJson(Example().ToJson(), "x");
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, Example());
  EXPECT_EQ(*LoopState::FromJson(LoopState().ToJson(), "x"), LoopState());
}

TEST(LoopStateTest, GradientNormMayBeNotANumber) {
  LoopState state = Example();
  state.last_grad_norm = std::numeric_limits<double>::quiet_NaN();
  const auto back = LoopState::FromJson(state.ToJson(), "x");
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_TRUE(std::isnan(back->last_grad_norm));
  EXPECT_EQ(back->nonfinite_in_a_row, 2);
}

TEST(LoopStateTest, WithoutAnOptimizersNameItIsAdamW) {
  const std::string good = Example().ToJson();
  const auto old =
      LoopState::FromJson(absl::StrReplaceAll(good, {{"\"optimizer\"", "\"other\""}}), "x");
  ASSERT_TRUE(old.ok()) << old.status();
  EXPECT_EQ(old->optimizer, "adamw");
  const auto wrong = LoopState::FromJson(absl::StrReplaceAll(good, {{"\"lion\"", "3"}}), "x");
  EXPECT_EQ(wrong.status().message(), "x: 'optimizer' is not a name");
}

TEST(LoopStateTest, NamesWhatIsWrong) {
  const std::string good = Example().ToJson();
  for (const char* key :
       {"total_loss", "steps_since_log", "nonfinite_in_a_row", "last_epoch_end_step"}) {
    const auto missing =
        LoopState::FromJson(absl::StrReplaceAll(good, {{key, "other"}}), "out/lathe_state.json");
    ASSERT_FALSE(missing.ok());
    EXPECT_TRUE(absl::StrContains(missing.status().message(), key)) << missing.status();
    EXPECT_TRUE(absl::StrContains(missing.status().message(), "out/lathe_state.json"))
        << missing.status();
  }
  for (const char* text : {"", "[]", "{\"total_loss\": 1", "null"}) {
    EXPECT_FALSE(LoopState::FromJson(text, "x").ok()) << text;
  }
  EXPECT_FALSE(LoopState::FromJson(absl::StrReplaceAll(good, {{": 40", ": -40"}}), "x").ok());
  EXPECT_FALSE(LoopState::FromJson(absl::StrReplaceAll(good, {{": 40", ": \"40\""}}), "x").ok());
}

}  // namespace
}  // namespace lathe
