// Against transformers' Trainer: the same weights, text and arguments give the same log history,
// state, checkpoints and weights (tests/goldens/parity).
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <set>
#include <string>

#include "ATen/core/Tensor.h"
#include "gtest/gtest.h"
#include "lathe/tests/parity/pretrain_run.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

// What the project promises is 2e-4 (losses), 1e-3 (gradient norms) and 0.01 (weights). Two correct
// fp32 runs differ by far less, and a wrong decay group, say, moves losses by 1e-4 only: so these
// are the noise between two correct runs of this length with some room.
struct Tolerance {
  double loss = 2e-6;
  double grad_norm = 2e-5;
  double weights = 2e-4;
};

const std::set<std::string>& Timings() {
  static const auto& names = *new std::set<std::string>{
      "train_runtime", "train_samples_per_second", "train_steps_per_second",
      "eval_runtime",  "eval_samples_per_second",  "eval_steps_per_second"};
  return names;
}

std::set<std::string> Keys(const nlohmann::json& object) {
  std::set<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.insert(key);
  return keys;
}

class TrainerParityTest : public testing::TestWithParam<const char*> {
 protected:
  void ExpectRelative(double ours, double theirs, double tolerance, const std::string& what) {
    const double error = std::abs(ours - theirs) / std::abs(theirs);
    EXPECT_LT(error, tolerance) << what << ": " << ours << ", transformers has " << theirs;
    const std::string kind = what.substr(0, what.find(' '));
    worst_[kind] = std::max(worst_[kind], error);
  }

  void ExpectEntry(const nlohmann::json& ours, const nlohmann::json& theirs) {
    ASSERT_EQ(Keys(ours), Keys(theirs)) << ours << "\n" << theirs;
    for (const auto& [key, value] : theirs.items()) {
      const std::string what = key + " at step " + theirs["step"].dump();
      if (Timings().contains(key)) {
        EXPECT_TRUE(ours[key].is_number()) << what;
      } else if (key == "loss" || key == "eval_loss" || key == "train_loss") {
        ExpectRelative(ours[key], value, tolerance_.loss, what);
      } else if (key == "grad_norm") {
        ExpectRelative(ours[key], value, tolerance_.grad_norm, what);
      } else {  // step, epoch, learning_rate, total_flos: the same doubles
        EXPECT_EQ(ours[key].dump(), value.dump()) << what;
      }
    }
  }

  // All of trainer_state.json but its history.
  void ExpectState(const nlohmann::json& ours, const nlohmann::json& theirs,
                   const std::string& file) {
    ASSERT_EQ(Keys(ours), Keys(theirs)) << file;
    for (const auto& [key, value] : theirs.items()) {
      const std::string what = key + " in " + file;
      if (key == "log_history") continue;
      if (key == "best_metric" && value.is_number() && ours[key].is_number()) {
        ExpectRelative(ours[key], value, tolerance_.loss, what);
      } else if (key == "best_model_checkpoint" && ours[key].is_string()) {
        EXPECT_EQ(std::filesystem::path(ours[key].get<std::string>()).filename().string(), value)
            << what;
      } else if (key == "stateful_callbacks" && file == "trainer_state.json") {
        // Hugging Face's is as old as the last checkpoint here, ours is not.
        EXPECT_EQ(Keys(ours[key]), Keys(value)) << what;
        EXPECT_EQ(ours[key]["TrainerControl"], value["TrainerControl"]) << what;
      } else {
        EXPECT_EQ(ours[key].dump(), value.dump()) << what;
      }
    }
  }

  void ExpectWeights(const std::string& ours_file, const std::string& theirs_file,
                     const std::string& start_file) {
    const auto ours = ReadWeights(ours_file), theirs = ReadWeights(theirs_file);
    const auto start = ReadWeights(start_file);
    ASSERT_EQ(ours.size(), theirs.size());
    for (const auto& [name, tensor] : theirs) {
      ASSERT_TRUE(ours.contains(name)) << name;
      const double moved = tensor.sub(start.at(name)).norm().item().toDouble();
      const double apart = ours.at(name).sub(tensor).norm().item().toDouble();
      EXPECT_LE(apart, tolerance_.weights * moved) << name;
      if (moved > 0) worst_["weights"] = std::max(worst_["weights"], apart / moved);
    }
  }

  const Tolerance tolerance_;
  std::map<std::string, double> worst_;
};

TEST_P(TrainerParityTest, EqualsTransformers) {
  const std::string name = GetParam(), goldens = "tests/goldens/parity/";
  const nlohmann::json golden = ReadJson(goldens + name + ".json");
  ASSERT_TRUE(golden.is_object());
  std::vector<std::string> flags = GoldenFlags(golden["model"]);
  for (const std::string& flag : FlagsFromJson(golden["arguments"])) flags.push_back(flag);
  const PretrainRun run = RunPretrain(name, flags);
  ASSERT_EQ(run.exit_code, 0) << run.output;

  const nlohmann::json& theirs = golden["state"]["log_history"];
  const nlohmann::json& ours = run.state["log_history"];
  ExpectState(run.state, golden["state"], "trainer_state.json");
  ASSERT_EQ(ours.size(), theirs.size()) << run.state.dump(1);
  for (size_t i = 0; i < theirs.size(); ++i) ExpectEntry(ours[i], theirs[i]);

  std::set<std::string> checkpoints;
  for (const auto& entry : std::filesystem::directory_iterator(run.folder)) {
    const std::string file = entry.path().filename();
    if (file.starts_with("checkpoint-")) checkpoints.insert(file);
  }
  EXPECT_EQ(checkpoints, Keys(golden["checkpoints"]));
  for (const std::string& checkpoint : checkpoints) {
    const nlohmann::json state = ReadJson(run.folder + "/" + checkpoint + "/trainer_state.json");
    ExpectState(state, golden["checkpoints"][checkpoint], checkpoint);
    EXPECT_EQ(state["log_history"].size(), golden["checkpoints"][checkpoint]["log_history"]);
  }

  if (golden["arguments"].contains("load_best_model_at_end")) {
    const auto best =
        ReadWeights(run.state["best_model_checkpoint"].get<std::string>() + "/model.safetensors");
    for (const auto& [tensor, values] : ReadWeights(run.folder + "/model.safetensors")) {
      EXPECT_TRUE(values.equal(best.at(tensor))) << tensor << " is not the best checkpoint's";
    }
  }
  const std::string weights = goldens + name + ".safetensors";
  if (std::filesystem::exists(weights)) {
    ExpectWeights(run.folder + "/model.safetensors", weights,
                  goldens + "models/" + golden["model"].get<std::string>() + "/model.safetensors");
  }
  for (const auto& [kind, error] : worst_) {
    std::printf("%s: worst relative error of %s: %.2g\n", name.c_str(), kind.c_str(), error);
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, TrainerParityTest,
                         testing::Values("random", "sequential", "epochs", "llama", "stable_decay",
                                         "evaluate", "fractional_epochs", "by_epoch", "load_best",
                                         "save_best", "early_stopping", "small_progress",
                                         "stop_at_epoch", "best_without_loading"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace lathe
