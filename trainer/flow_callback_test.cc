#include "lathe/trainer/flow_callback.h"

#include <cmath>
#include <optional>
#include <vector>

#include "gtest/gtest.h"
#include "lathe/trainer/callback.h"
#include "lathe/trainer/trainer_state.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

// Feeds one metric per evaluation, as the trainer does: the callback sees the best before each.
// Returns after how many the callback asked to stop; 0: never.
int StopsAfter(EarlyStoppingCallback& callback, const std::vector<double>& values, bool greater,
               TrainerState& state) {
  TrainerControl control;
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_TRUE(callback.OnEvaluate(state, {{"eval_x", values[i]}}, control).ok());
    if (control.should_training_stop) return static_cast<int>(i) + 1;
    const bool is_best = !state.best_metric || (greater ? values[i] > *state.best_metric
                                                        : values[i] < *state.best_metric);
    if (is_best) state.best_metric = values[i];
  }
  return 0;
}

int StopsAfter(int patience, double threshold, const std::vector<double>& values,
               bool greater = false) {
  EarlyStoppingCallback callback(patience, threshold, "eval_x", greater);
  TrainerState state;
  return StopsAfter(callback, values, greater, state);
}

TEST(EarlyStoppingCallbackTest, StopsAfterSoManyInARow) {
  EXPECT_EQ(StopsAfter(2, 0, {5, 4, 3, 2, 1}), 0);
  EXPECT_EQ(StopsAfter(1, 0, {5, 4, 4.5}), 3);
  EXPECT_EQ(StopsAfter(2, 0, {5, 6, 4, 4.5, 4.2}), 5) << "a better one starts the count anew";
  EXPECT_EQ(StopsAfter(2, 0, {1, 2, 3, 2.5, 2.6}, /*greater=*/true), 5);
  EXPECT_EQ(StopsAfter(1, 0, {5, 5}), 2) << "equal is not better";
  EXPECT_EQ(StopsAfter(2, 0, {5, std::nan(""), std::nan("")}), 3);
}

// Small steps that add up to more than the threshold do not help: each is compared with the best so
// far, which moves along.
TEST(EarlyStoppingCallbackTest, ThresholdIsAgainstTheBestSoFar) {
  EXPECT_EQ(StopsAfter(3, 0.5, {5, 4.8, 4.6, 4.4, 4.2}), 4);
  EXPECT_EQ(StopsAfter(3, 0.1, {5, 4.8, 4.6, 4.4, 4.2}), 0);
}

TEST(EarlyStoppingCallbackTest, StateGoesOn) {
  EarlyStoppingCallback first(3, 0.25, "eval_x", false);
  TrainerState state;
  ASSERT_EQ(StopsAfter(first, {5, 6, 7}, false, state), 0);
  // Hugging Face's form, name and keys.
  EXPECT_EQ(state.stateful_callbacks.dump(),
            R"({"EarlyStoppingCallback":{)"
            R"("args":{"early_stopping_patience":3,"early_stopping_threshold":0.25},)"
            R"("attributes":{"early_stopping_patience_counter":2}}})");
  TrainerControl control;
  EarlyStoppingCallback second(3, 0.25, "eval_x", false);
  ASSERT_TRUE(second.OnTrainBegin(state, control).ok());
  EXPECT_FALSE(control.should_training_stop);
  // The patience of the flags decides, not the one that was saved.
  EarlyStoppingCallback impatient(2, 0.25, "eval_x", false);
  ASSERT_TRUE(impatient.OnTrainBegin(state, control).ok());
  EXPECT_TRUE(control.should_training_stop);

  EXPECT_EQ(StopsAfter(second, {8}, false, state), 1);
}

TEST(EarlyStoppingCallbackTest, ForeignStatesAreLeftAlone) {
  for (const char* text :
       {"{}", R"({"EarlyStoppingCallback": 3})", R"({"EarlyStoppingCallback": [1]})",
        R"({"EarlyStoppingCallback": {"attributes": {"early_stopping_patience_counter": "x"}}})"}) {
    TrainerControl control;
    TrainerState state;
    state.stateful_callbacks = nlohmann::json::parse(text);
    EarlyStoppingCallback callback(1, 0, "eval_x", false);
    EXPECT_TRUE(callback.OnTrainBegin(state, control).ok());
    EXPECT_FALSE(control.should_training_stop) << text;
  }
}

}  // namespace
}  // namespace lathe
