// --nproc_per_node N is one process with N times the batch: through the real launcher, with ranks
// as processes.
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
    worst = std::max(worst, std::abs(a[i] - b[i]) / std::abs(b[i]));
  }
  return worst;
}

TEST(LaunchedRanksTest, EqualOneProcessWithTheWholeBatch) {
  const PretrainRun one =
      Train("one", {"--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "2"});
  ASSERT_EQ(one.exit_code, 0) << one.output;
  const auto start = ReadWeights("tests/goldens/parity/models/qwen2/model.safetensors");
  const auto weights = ReadWeights(one.folder + "/model.safetensors");
  for (const char* ranks : {"2", "4"}) {
    const bool two = ranks[0] == '2';
    const PretrainRun many = Train(std::string("ranks") + ranks,
                                   {"--nproc_per_node", ranks, "--per_device_train_batch_size", "4",
                                    "--gradient_accumulation_steps", two ? "2" : "1"});
    ASSERT_EQ(many.exit_code, 0) << many.output;
    // The bar is 1e-5; sums in another order give 1e-7 a step.
    const double losses = WorstRelative(History(many, "loss"), History(one, "loss"));
    const double norms = WorstRelative(History(many, "grad_norm"), History(one, "grad_norm"));
    const double eval = WorstRelative(History(many, "eval_loss"), History(one, "eval_loss"));
    EXPECT_LT(losses, 2e-6);
    EXPECT_LT(norms, 2e-5);
    EXPECT_LT(eval, 2e-6);
    EXPECT_EQ(History(many, "epoch"), History(one, "epoch"));
    EXPECT_EQ(History(many, "learning_rate"), History(one, "learning_rate"));
    EXPECT_EQ(History(many, "total_flos"), History(one, "total_flos"));
    double worst = 0;
    for (const auto& [name, tensor] : ReadWeights(many.folder + "/model.safetensors")) {
      const double moved = weights.at(name).sub(start.at(name)).norm().item().toDouble();
      const double apart = weights.at(name).sub(tensor).norm().item().toDouble();
      worst = std::max(worst, apart / moved);
    }
    EXPECT_LT(worst, 1e-3);
    std::printf("%s ranks: losses %.2g, norms %.2g, eval %.2g, weights %.2g\n", ranks, losses,
                norms, eval, worst);
  }
}

}  // namespace
}  // namespace lathe
