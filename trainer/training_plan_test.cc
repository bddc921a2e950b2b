#include "lathe/trainer/training_plan.h"

#include "gtest/gtest.h"

namespace lathe {
namespace {

// Expected numbers: transformers 5.17's Trainer on the same arguments.
TEST(TrainingPlanTest, FollowsHuggingFace) {
  TrainingArguments a;
  a.set_gradient_accumulation_steps(4);
  a.set_num_train_epochs(1.5);
  a.set_warmup_ratio(0.1);
  a.set_logging_steps(0.25);
  const auto plan = MakeTrainingPlan(a, /*batches_per_epoch=*/10);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->updates_per_epoch, 3);
  EXPECT_EQ(plan->max_steps, 5);  // ceil(1.5 · 3)
  EXPECT_EQ(plan->num_train_epochs, 2);
  EXPECT_EQ(plan->WindowSize(0), 4);
  EXPECT_EQ(plan->WindowSize(2), 2);
  EXPECT_EQ(plan->warmup_steps, 1);   // ceil(0.5)
  EXPECT_EQ(plan->logging_steps, 2);  // ceil(5 · 0.25)
  EXPECT_EQ(plan->eval_steps, 500);   // nobody evaluates
  EXPECT_EQ(plan->save_steps, 500);
}

TEST(TrainingPlanTest, MaxStepsReplacesEpochs) {
  TrainingArguments a;
  a.set_max_steps(7);
  const auto plan = MakeTrainingPlan(a, 3);
  EXPECT_EQ(plan->max_steps, 7);
  EXPECT_EQ(plan->num_train_epochs, 3);
  EXPECT_EQ(plan->updates_per_epoch, 3);
}

TEST(TrainingPlanTest, RefusesNothingToTrain) {
  TrainingArguments a;
  EXPECT_FALSE(MakeTrainingPlan(a, 0).ok());
  a.set_num_train_epochs(0);
  EXPECT_NE(MakeTrainingPlan(a, 3).status().message().find("--num_train_epochs"),
            std::string::npos);
}

}  // namespace
}  // namespace lathe
