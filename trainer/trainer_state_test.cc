#include "lathe/trainer/trainer_state.h"

#include <cmath>
#include <string>

#include "gtest/gtest.h"

namespace lathe {
namespace {

// Written by TrainerState.save_to_json of transformers 5.17 from the values that the test below
// sets.
constexpr std::string_view kWrittenByTransformers = R"json({
  "best_global_step": 5,
  "best_metric": 5.25,
  "best_model_checkpoint": "/tmp/\u00e9/checkpoint-5",
  "epoch": 0.4166666666666667,
  "eval_steps": 500,
  "global_step": 5,
  "is_hyper_param_search": false,
  "is_local_process_zero": true,
  "is_world_process_zero": true,
  "log_history": [
    {
      "epoch": 0.08333333333333333,
      "grad_norm": 1.2345678806304932,
      "learning_rate": 0.0,
      "loss": 5.4321,
      "step": 1
    },
    {
      "epoch": 0.4166666666666667,
      "eval_loss": 5.25,
      "eval_runtime": 0.1234,
      "step": 5
    },
    {
      "epoch": 0.4166666666666667,
      "learning_rate": 5e-05,
      "loss": NaN,
      "step": 5
    }
  ],
  "logging_steps": 1,
  "max_steps": 12,
  "num_input_tokens_seen": 0,
  "num_train_epochs": 1,
  "save_steps": 5,
  "stateful_callbacks": {
    "TrainerControl": {
      "args": {
        "should_epoch_stop": false,
        "should_evaluate": false,
        "should_log": false,
        "should_save": true,
        "should_training_stop": false
      },
      "attributes": {}
    }
  },
  "total_flos": 1.2345678901234568e+18,
  "train_batch_size": 2,
  "trial_name": null,
  "trial_params": null
}
)json";

TrainerState Example() {
  TrainerState state;
  state.epoch = 5.0 / 12;
  state.global_step = 5;
  state.max_steps = 12;
  state.num_train_epochs = 1;
  state.logging_steps = 1;
  state.save_steps = 5;
  state.train_batch_size = 2;
  state.total_flos = 1234567890123456789.0;
  state.log_history = {
      {{"loss", 5.4321},
       {"grad_norm", 1.2345678806304932},
       {"learning_rate", 0.0},
       {"epoch", 1.0 / 12},
       {"step", 1}},
      {{"eval_loss", 5.25}, {"eval_runtime", 0.1234}, {"epoch", 5.0 / 12}, {"step", 5}},
      {{"loss", NAN}, {"learning_rate", 5e-05}, {"step", 5}, {"epoch", 5.0 / 12}}};
  state.best_metric = 5.25;
  state.best_global_step = 5;
  state.best_model_checkpoint = "/tmp/\xc3\xa9/checkpoint-5";
  state.stateful_callbacks["TrainerControl"] = {{"args",
                                                 {{"should_epoch_stop", false},
                                                  {"should_evaluate", false},
                                                  {"should_log", false},
                                                  {"should_save", true},
                                                  {"should_training_stop", false}}},
                                                {"attributes", nlohmann::json::object()}};
  return state;
}

TEST(TrainerStateTest, WritesWhatTransformersWrites) {
  EXPECT_EQ(Example().ToJson(), kWrittenByTransformers);
}

TEST(TrainerStateTest, ReadsItBackToTheSameBytes) {
  const absl::StatusOr<TrainerState> state =
      TrainerState::FromJson(kWrittenByTransformers, "trainer_state.json");
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->ToJson(), kWrittenByTransformers);
  EXPECT_EQ(state->global_step, 5);
  EXPECT_EQ(state->best_metric, 5.25);
  EXPECT_TRUE(std::isnan(state->log_history[2]["loss"].get<double>()));
  const absl::StatusOr<TrainerState> fresh = TrainerState::FromJson(TrainerState().ToJson(), "f");
  ASSERT_TRUE(fresh.ok());
  EXPECT_FALSE(fresh->best_metric.has_value());
  EXPECT_FALSE(fresh->train_batch_size.has_value());
}

TEST(TrainerStateTest, ReadsOtherVersions) {
  // A float count, as Hugging Face writes it for --logging_steps 1 on a command line, keys of
  // another version, and none of the optional ones.
  const absl::StatusOr<TrainerState> state = TrainerState::FromJson(
      R"({"epoch": 1, "global_step": 3, "log_history": [], "logging_steps": 1.0, "new_key": [1],
          "text": "NaN \"Infinity"})",
      "f");
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->logging_steps, 1);
  EXPECT_EQ(state->save_steps, 500);
}

TEST(TrainerStateTest, BadTextIsNamed) {
  const auto error = [](std::string_view text) {
    return std::string(TrainerState::FromJson(text, "f.json").status().message());
  };
  EXPECT_EQ(error("[]"), "f.json: expected a JSON object");
  EXPECT_EQ(error(R"({"epoch": 1, "log_history": []})"), "f.json: global_step is missing");
  EXPECT_EQ(error(R"({"epoch": 1, "global_step": null, "log_history": []})"),
            "f.json: global_step is missing");
  EXPECT_EQ(error(R"({"epoch": 1, "global_step": 1.5, "log_history": []})"),
            "f.json: global_step: expected an integer, got 1.5");
  EXPECT_EQ(error(R"({"epoch": 1, "global_step": Infinity, "log_history": []})"),
            "f.json: global_step: expected an integer, got null");
  EXPECT_EQ(error(R"({"epoch": "1", "global_step": 1, "log_history": []})"),
            "f.json: epoch: expected a number, got \"1\"");
  EXPECT_EQ(error(R"({"epoch": 1, "global_step": 1, "log_history": [3]})"),
            "f.json: log_history: expected a list of objects, got [3]");
  EXPECT_EQ(error(R"({"epoch": 1, "global_step": 1, "log_history": [], "best_metric": "x"})"),
            "f.json: best_metric: expected a number, got \"x\"");
  EXPECT_EQ(error("{\"epoch\": 1,").substr(0, 9), "f.json:1:");
}

TEST(TrainerStateTest, DifferentArgumentsAreNamed) {
  TrainerState run, checkpoint;
  EXPECT_EQ(DifferentArguments(run, checkpoint), "");
  run.save_steps = 7;
  run.train_batch_size = 4;
  EXPECT_EQ(DifferentArguments(run, checkpoint), "save_steps is 7, was 500");
  checkpoint.train_batch_size = 8;
  EXPECT_EQ(DifferentArguments(run, checkpoint),
            "save_steps is 7, was 500; train_batch_size is 4, was 8");
}

}  // namespace
}  // namespace lathe
