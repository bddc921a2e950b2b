// Against DeepSpeed under transformers' Trainer, on two ranks: the same file, weights, text and
// arguments give the same losses (tests/goldens/deepspeed).
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "lathe/tests/parity/pretrain_run.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

class DeepSpeedParityTest : public testing::TestWithParam<const char*> {};

double WorstRelative(const std::vector<double>& ours, const std::vector<double>& theirs) {
  double worst = 0;
  for (size_t i = 0; i < theirs.size(); ++i) {
    worst = std::max(worst, std::abs(ours[i] - theirs[i]) / std::abs(theirs[i]));
  }
  return worst;
}

std::vector<double> Column(const nlohmann::json& history, const std::string& key) {
  std::vector<double> values;
  for (const nlohmann::json& entry : history) {
    if (entry.contains(key)) values.push_back(entry[key]);
  }
  return values;
}

TEST_P(DeepSpeedParityTest, SameLosses) {
  const std::string name = GetParam();
  const nlohmann::json golden = ReadJson("tests/goldens/deepspeed/" + name + ".json");
  ASSERT_TRUE(golden.is_object());
  const std::string file = testing::TempDir() + name + "_deepspeed.json";
  std::ofstream(file) << golden["deepspeed"];
  std::vector<std::string> flags = GoldenFlags(golden["model"]);
  const std::vector<std::string> arguments = FlagsFromJson(golden["arguments"]);
  flags.insert(flags.end(), arguments.begin(), arguments.end());
  flags.insert(flags.end(), {"--deepspeed", file, "--nproc_per_node", "2"});
  const PretrainRun run = RunPretrain("deepspeed_" + name, flags);
  ASSERT_EQ(run.exit_code, 0) << run.output;

  const std::vector<double> losses = Column(golden["history"], "loss");
  const std::vector<double> norms = Column(golden["history"], "grad_norm");
  ASSERT_EQ(losses.size(), 10u);
  ASSERT_EQ(History(run, "loss").size(), losses.size());
  const double loss = WorstRelative(History(run, "loss"), losses);
  const double norm = WorstRelative(History(run, "grad_norm"), norms);
  std::printf("%s: losses %.1e, gradient norms %.1e\n", name.c_str(), loss, norm);
  // The project promises 2e-4 and, in bf16, 5e-3.
  const bool bf16 = golden["arguments"].contains("bf16");
  EXPECT_LT(loss, bf16 ? 5e-3 : 2e-5);
  EXPECT_LT(norm, bf16 ? 5e-2 : 2e-4);

  // With DeepSpeed's own optimizer, transformers logs the rate of the next update; we, the one
  // used.
  const std::vector<double> rates = Column(golden["history"], "learning_rate");
  const std::vector<double> used = History(run, "learning_rate");
  ASSERT_EQ(used.size(), rates.size());
  const size_t late = golden["deepspeed"].contains("optimizer") ? 1 : 0;
  for (size_t i = 0; i + late < rates.size(); ++i) {
    EXPECT_NEAR(used[i + late], rates[i], 1e-12 * rates[i]) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, DeepSpeedParityTest,
                         testing::Values("stage2", "stage2_bf16", "stage2_flags", "stage1_llama",
                                         "stage3"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace lathe
