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

TEST(LrScheduleTest, EqualsDeepSpeed) {
  std::ifstream file("trainer/testdata/deepspeed_schedule.json");
  ASSERT_TRUE(file.is_open());
  const nlohmann::json cases = nlohmann::json::parse(file);
  ASSERT_GT(cases.size(), 10u);
  for (const nlohmann::json& golden : cases) {
    const double learning_rate = golden["learning_rate"];
    const absl::StatusOr<LrSchedule> schedule =
        LrSchedule::Create({.type = golden["type"],
                            .num_warmup_steps = golden["warmup"],
                            .num_training_steps = golden["total"],
                            .learning_rate = learning_rate,
                            .kwargs = golden["kwargs"].dump()});
    ASSERT_TRUE(schedule.ok()) << schedule.status();
    int64_t update = 0;
    for (const nlohmann::json& rate : golden["rates"]) {
      // DeepSpeed computes rates, we factors: some roundings differ, each by an ulp of the peak.
      EXPECT_NEAR(learning_rate * schedule->Factor(update), rate.get<double>(), 1e-18)
          << golden.dump() << " at " << update;
      ++update;
    }
  }
}

TEST(LrScheduleTest, DeepSpeedsWarmupStartsOneUpdateLate) {
  const absl::StatusOr<LrSchedule> schedule =
      LrSchedule::Create({.type = "WarmupLR", .num_warmup_steps = 200, .learning_rate = 1e-4});
  ASSERT_TRUE(schedule.ok()) << schedule.status();
  EXPECT_EQ(schedule->Factor(0), 0);
  EXPECT_EQ(schedule->Factor(1), 0);
  EXPECT_EQ(schedule->Factor(2), std::log(2.0) * (1.0 / std::log(200.0)));
  EXPECT_LT(schedule->Factor(199), 1);
  EXPECT_EQ(schedule->Factor(201), 1);
  EXPECT_EQ(schedule->Factor(1000000), 1);
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
            "--lr_scheduler_kwargs: decay_type: expected cosine, linear, 1-sqrt; got sine");
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
  options.type = "WarmupLR";
  options.kwargs = R"({"warmup_type": "cosine"})";
  EXPECT_EQ(ErrorOf(options),
            "--lr_scheduler_kwargs: warmup_type: expected log, linear; got cosine");
  options.kwargs = R"({"cos_min_ratio": 0.1})";
  EXPECT_EQ(ErrorOf(options),
            "--lr_scheduler_kwargs: the schedule WarmupLR has no 'cos_min_ratio'; it has "
            "warmup_max_lr, warmup_min_lr, warmup_type");
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
