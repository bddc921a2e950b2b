// --bf16 trains as fp32 does: its losses and what comes out of it.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "lathe/tests/parity/pretrain_run.h"

namespace lathe {
namespace {

PretrainRun Train(const std::string& name, const std::string& model,
                  const std::vector<std::string>& more) {
  std::vector<std::string> flags = GoldenFlags(model);
  for (const char* flag :
       {"--block_size", "32", "--per_device_train_batch_size", "8", "--weight_decay", "0.1",
        "--warmup_steps", "10", "--lr_scheduler_type", "cosine", "--logging_steps", "1",
        "--save_strategy", "no", "--do_eval"}) {
    flags.push_back(flag);
  }
  flags.insert(flags.end(), more.begin(), more.end());
  return RunPretrain(name, flags);
}

// The project's promise: over 100 steps each loss within 1 %, the evaluation after it within 0.3 %.
TEST(Bf16Test, FollowsFp32Over100Steps) {
  for (const char* model : {"qwen2", "llama"}) {
    const std::vector<std::string> steps = {"--max_steps", "100", "--learning_rate", "3e-3"};
    std::vector<std::string> with_bf16 = steps;
    with_bf16.push_back("--bf16");
    const PretrainRun fp32 = Train("fp32", model, steps), bf16 = Train("bf16", model, with_bf16);
    ASSERT_EQ(fp32.exit_code, 0) << fp32.output;
    ASSERT_EQ(bf16.exit_code, 0) << bf16.output;
    const std::vector<double> a = History(bf16, "loss"), b = History(fp32, "loss");
    ASSERT_EQ(a.size(), 100u);
    ASSERT_EQ(b.size(), 100u);
    EXPECT_LT(b.back(), 0.75 * b.front()) << "a training that learns little proves little";
    double worst = 0;
    for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] / b[i] - 1));
    const double eval = History(bf16, "eval_loss").at(0) / History(fp32, "eval_loss").at(0) - 1;
    EXPECT_LT(worst, 0.01);
    EXPECT_GT(worst, 0) << "--bf16 changed nothing";
    EXPECT_LT(std::abs(eval), 0.003);
    std::printf("%s: bf16 losses within %.3f %%, evaluation within %.3f %% of fp32's\n", model,
                100 * worst, 100 * std::abs(eval));
  }
}

// The fp32 masters start from the file, not from its rounding to bf16: a rate of 0 gives back the
// very weights.
TEST(Bf16Test, KeepsWhatBf16CannotHold) {
  const PretrainRun run =
      Train("rate0", "qwen2", {"--max_steps", "2", "--learning_rate", "0", "--bf16"});
  ASSERT_EQ(run.exit_code, 0) << run.output;
  const auto start = ReadWeights("tests/goldens/parity/models/qwen2/model.safetensors");
  for (const auto& [name, tensor] : ReadWeights(run.folder + "/model.safetensors")) {
    EXPECT_TRUE(tensor.equal(start.at(name))) << name;
  }
}

}  // namespace
}  // namespace lathe
