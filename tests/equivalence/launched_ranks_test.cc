// --nproc_per_node N is one process with N times the batch, or, with tensor parallelism, the same
// one: through the real launcher, with ranks as processes.
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "lathe/tests/parity/pretrain_run.h"

namespace lathe {
namespace {

// What is common to all: 20 updates of 16 samples. The batches of the ranks are dealt round robin,
// so that together they are those of one process.
PretrainRun Train(const std::string& name, const std::vector<std::string>& more) {
  std::vector<std::string> flags = GoldenFlags("qwen2");
  for (const char* flag : {"--block_size",
                           "32",
                           "--max_steps",
                           "20",
                           "--learning_rate",
                           "3e-3",
                           "--warmup_steps",
                           "5",
                           "--lr_scheduler_type",
                           "cosine",
                           "--weight_decay",
                           "0.1",
                           "--logging_steps",
                           "1",
                           "--save_strategy",
                           "no",
                           "--eval_strategy",
                           "steps",
                           "--eval_steps",
                           "10",
                           "--per_device_eval_batch_size",
                           "4"}) {
    flags.push_back(flag);
  }
  flags.insert(flags.end(), more.begin(), more.end());
  return RunPretrain(name, flags);
}

double WorstRelative(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size() || a.empty()) return HUGE_VAL;
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double error = std::abs(a[i] - b[i]) / std::abs(b[i]);
    if (std::isnan(error)) return HUGE_VAL;
    worst = std::max(worst, error);
  }
  return worst;
}

class LaunchedRanksTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    one_ =
        Train("one", {"--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "2"});
    ASSERT_EQ(one_.exit_code, 0) << one_.output;
  }

  PretrainRun ExpectEqual(const std::string& name, const std::vector<std::string>& flags) {
    const PretrainRun many = Train(name, flags);
    EXPECT_EQ(many.exit_code, 0) << many.output;
    if (many.exit_code != 0) return many;
    // The bar is 1e-5; sums in another order give 1e-7 a step.
    const double losses = WorstRelative(History(many, "loss"), History(one_, "loss"));
    const double norms = WorstRelative(History(many, "grad_norm"), History(one_, "grad_norm"));
    const double eval = WorstRelative(History(many, "eval_loss"), History(one_, "eval_loss"));
    EXPECT_LT(losses, 2e-6) << name;
    EXPECT_LT(norms, 2e-5) << name;
    EXPECT_LT(eval, 2e-6) << name;
    EXPECT_EQ(History(many, "epoch"), History(one_, "epoch")) << name;
    EXPECT_EQ(History(many, "learning_rate"), History(one_, "learning_rate")) << name;
    EXPECT_EQ(History(many, "total_flos"), History(one_, "total_flos")) << name;
    const auto start = ReadWeights("tests/goldens/parity/models/qwen2/model.safetensors");
    const auto weights = ReadWeights(one_.folder + "/model.safetensors");
    const auto mine = ReadWeights(many.folder + "/model.safetensors");
    EXPECT_EQ(mine.size(), weights.size()) << name;
    double worst = 0;
    for (const auto& [weight, tensor] : mine) {
      const double moved = weights.at(weight).sub(start.at(weight)).norm().item().toDouble();
      const double apart = weights.at(weight).sub(tensor).norm().item().toDouble();
      EXPECT_FALSE(std::isnan(apart)) << weight;
      worst = std::max(worst, apart / moved);
    }
    EXPECT_LT(worst, 1e-3) << name;
    std::printf("%s: losses %.2g, norms %.2g, eval %.2g, weights %.2g\n", name.c_str(), losses,
                norms, eval, worst);
    return many;
  }

  static PretrainRun one_;  // one process with the whole batch
};

PretrainRun LaunchedRanksTest::one_;

TEST_F(LaunchedRanksTest, DataParallel) {
  ExpectEqual("dp2", {"--nproc_per_node", "2", "--per_device_train_batch_size", "4",
                      "--gradient_accumulation_steps", "2"});
  ExpectEqual("dp4", {"--nproc_per_node", "4", "--per_device_train_batch_size", "4",
                      "--gradient_accumulation_steps", "1"});
}

TEST_F(LaunchedRanksTest, TensorParallel) {
  ExpectEqual("tp2", {"--nproc_per_node", "2", "--tensor_model_parallel_size", "2",
                      "--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "2"});
  const PretrainRun split = ExpectEqual(
      "tp4_sequence",
      {"--nproc_per_node", "4", "--tensor_model_parallel_size", "4", "--sequence_parallel",
       "--recompute_granularity", "selective", "--recompute_modules", "mlp", "--log_communication",
       "--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "2"});
  const nlohmann::json results = ReadJson(split.folder + "/train_results.json");
  EXPECT_GT(results.value("communication_tp_bytes", 0.0), 1e6) << results;
  EXPECT_GT(results.value("communication_tp_seconds", 0.0), 0) << results;
  ExpectEqual("tp2_dp2",
              {"--nproc_per_node", "4", "--tensor_model_parallel_size", "2",
               "--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "1"});
}

TEST_F(LaunchedRanksTest, PipelineParallel) {
  ExpectEqual("pp2", {"--nproc_per_node", "2", "--pipeline_model_parallel_size", "2",
                      "--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "4"});
  ExpectEqual("tp2_pp2_zero_bubble",
              {"--nproc_per_node", "4", "--tensor_model_parallel_size", "2",
               "--pipeline_model_parallel_size", "2", "--pipeline_schedule", "zb-h1",
               "--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "4"});
}

}  // namespace
}  // namespace lathe
