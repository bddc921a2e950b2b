#include "lathe/trainer/lr_schedule.h"

#include <cmath>
#include <fstream>
#include <string>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

TEST(LrScheduleTest, EqualsTransformers) {
  std::ifstream file("trainer/testdata/lr_schedule.json");
  ASSERT_TRUE(file.is_open());
  const nlohmann::json cases = nlohmann::json::parse(file);
  ASSERT_GT(cases.size(), 20u);
  for (const nlohmann::json& golden : cases) {
    const absl::StatusOr<LrSchedule> schedule =
        LrSchedule::Create({.type = golden["type"],
                            .num_warmup_steps = golden["warmup"],
                            .num_training_steps = golden["total"],
                            .learning_rate = golden["learning_rate"],
                            .kwargs = golden["kwargs"].dump()});
    ASSERT_TRUE(schedule.ok()) << schedule.status();
    int64_t step = 0;
    for (const nlohmann::json& factor : golden["factors"]) {
      const double expected = factor;
      // The formulas are the same to the operation; only cos and pow may differ between libms, by
      // an ulp.
      EXPECT_NEAR(schedule->Factor(step), expected, 4e-16 * std::max(1.0, std::abs(expected)))
          << golden.dump() << " at " << step;
      ++step;
    }
  }
}

std::string ErrorOf(const LrScheduleOptions& options) {
  const absl::StatusOr<LrSchedule> schedule = LrSchedule::Create(options);
  EXPECT_FALSE(schedule.ok());
  return std::string(schedule.status().message());
}

TEST(LrScheduleTest, WrongKwargsAreNamed) {
  LrScheduleOptions options = {.num_training_steps = 10, .learning_rate = 1e-4};
  options.type = "plateau";
  EXPECT_EQ(ErrorOf(options), "--lr_scheduler_type: there is no schedule 'plateau'");
  options.type = "warmup_stable_decay";
  EXPECT_EQ(ErrorOf(options),
            "--lr_scheduler_kwargs: the schedule warmup_stable_decay needs num_decay_steps");
  options.kwargs = R"({"num_decay_steps": 3, "decay_type": "sine"})";
  EXPECT_EQ(ErrorOf(options),
            "--lr_scheduler_kwargs: decay_type: expected linear, cosine or 1-sqrt, got sine");
  options.kwargs = R"({"num_decay_steps": "3"})";
  EXPECT_EQ(ErrorOf(options),
            "--lr_scheduler_kwargs: num_decay_steps: expected a number, got \"3\"");
  options.type = "cosine";
  options.kwargs = R"({"num_cycle": 3})";
  EXPECT_EQ(ErrorOf(options),
            "--lr_scheduler_kwargs: the schedule cosine has no 'num_cycle'; it has num_cycles");
  options.type = "linear";
  EXPECT_EQ(ErrorOf(options),
            "--lr_scheduler_kwargs: the schedule linear has no 'num_cycle'; it has none");
  options.kwargs = "[1]";
  EXPECT_EQ(ErrorOf(options), "--lr_scheduler_kwargs: expected a JSON object");
  options.type = "cosine_with_min_lr";
  options.kwargs = "";
  EXPECT_EQ(ErrorOf(options), "--lr_scheduler_kwargs: give one of min_lr and min_lr_rate");
  options.kwargs = R"({"min_lr": 1e-5, "min_lr_rate": 0.1})";
  EXPECT_EQ(ErrorOf(options), "--lr_scheduler_kwargs: give one of min_lr and min_lr_rate");
  options.type = "polynomial";
  options.kwargs = R"({"lr_end": 1})";
  EXPECT_EQ(ErrorOf(options),
            "--lr_scheduler_kwargs: lr_end 1 must be less than --learning_rate 0.0001");
  options.type = "inverse_sqrt";
  options.kwargs = R"({"timescale": 0})";
  EXPECT_EQ(ErrorOf(options), "--lr_scheduler_kwargs: timescale: expected more than 0, got 0");
}

TEST(NumWarmupStepsTest, StepsWinOverRatioAndRoundUp) {
  EXPECT_EQ(NumWarmupSteps(0, 0, 100), 0);
  EXPECT_EQ(NumWarmupSteps(200, 0.5, 100), 200);
  EXPECT_EQ(NumWarmupSteps(1, 0.5, 100), 1);
  EXPECT_EQ(NumWarmupSteps(0.03, 0.5, 101), 4);  // ceil(3.03)
  EXPECT_EQ(NumWarmupSteps(0, 0.1, 101), 11);    // ceil(10.1)
  EXPECT_EQ(NumWarmupSteps(0, 1, 7), 7);
}

}  // namespace
}  // namespace lathe
