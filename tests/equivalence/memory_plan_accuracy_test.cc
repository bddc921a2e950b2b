// What //launchers:plan predicts against what the run's allocator counts, of the largest rank: real
// runs of the program.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lathe/tests/process/program.h"
#include "lathe/tests/process/tiny_pretraining.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

struct Case {
  const char* name;
  int vocab_size;
  int zero_stage;
  std::vector<std::string> flags;
};

class MemoryPlanTest : public testing::Test {
 protected:
  // Tens of megabytes of weights and of activations.
  void SetModel(int vocab_size) {
    nlohmann::json config = TinyModelConfig(/*num_layers=*/4);
    config["hidden_size"] = 256;
    config["intermediate_size"] = 768;
    config["num_attention_heads"] = 8;
    config["num_key_value_heads"] = 4;
    config["head_dim"] = 32;
    config["vocab_size"] = vocab_size;
    config["max_position_embeddings"] = 1024;
    WriteFile(tiny_.model_folder() + "/config.json", config.dump());
  }
  std::vector<std::string> Flags(const std::string& out, int stage,
                                 const std::vector<std::string>& flags) {
    // Few enough blocks in an update for the little text.
    std::vector<std::string> all = {"--max_steps",
                                    "2",
                                    "--save_strategy",
                                    "no",
                                    "--per_device_train_batch_size",
                                    "2",
                                    "--gradient_accumulation_steps",
                                    "1"};
    if (stage > 0) {
      const std::string json = absl::StrCat(folder_, "/zero", stage, ".json");
      WriteFile(json, absl::StrCat(R"({"zero_optimization": {"stage": )", stage,
                                   R"(, "reduce_bucket_size": 4e6}})"));
      all.insert(all.end(), {"--deepspeed", json});
    }
    all.insert(all.end(), flags.begin(), flags.end());
    return tiny_.Flags(out, all);
  }

  const std::string folder_ = NewFolder();
  const TinyPretraining tiny_{folder_};
};

TEST_F(MemoryPlanTest, PredictsWhatRunsTake) {
  const std::vector<Case> cases = {
      {"one", 8000, 0, {"--block_size", "256"}},
      {"bf16, recompute", 8000, 0, {"--bf16", "--gradient_checkpointing", "--block_size", "512"}},
      {"large vocabulary", 60000, 0, {"--block_size", "64"}},
      {"dp 2", 8000, 0, {"--nproc_per_node", "2", "--block_size", "256"}},
      {"dp 2, stage 1, bf16", 8000, 1, {"--nproc_per_node", "2", "--bf16", "--block_size", "256"}},
      {"dp 2, stage 2", 8000, 2, {"--nproc_per_node", "2", "--block_size", "256"}},
      {"dp 2, stage 3", 8000, 3, {"--nproc_per_node", "2", "--block_size", "256"}},
      {"tp 2, sequence",
       8000,
       0,
       {"--nproc_per_node", "2", "--block_size", "256", "--tensor_model_parallel_size", "2",
        "--sequence_parallel"}},
      {"pp 2",
       8000,
       0,
       {"--nproc_per_node", "2", "--block_size", "256", "--pipeline_model_parallel_size", "2"}},
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    const Case& c = cases[i];
    SCOPED_TRACE(c.name);
    SetModel(c.vocab_size);
    const std::string out = absl::StrCat(folder_, "/out", i);
    const ProgramEnd end = RunProgram(kPretrain, {.arguments = Flags(out, c.zero_stage, c.flags)});
    ASSERT_EQ(end.exit_code, 0) << end.Text();
    const nlohmann::json results = nlohmann::json::parse(ReadFile(out + "/train_results.json"));
    const double predicted = results["predicted_memory_bytes"];
    const double measured = results["measured_memory_bytes"];
    std::printf("%-22s predicted %6.1f MB, measured %6.1f MB, %+.2f %%\n", c.name, predicted / 1e6,
                measured / 1e6, 100 * (predicted / measured - 1));
    EXPECT_GT(measured, 50e6);
    EXPECT_LT(std::abs(predicted / measured - 1), 0.02);
  }
}

TEST_F(MemoryPlanTest, TheLimitRefusesAndProposes) {
  SetModel(8000);
  const std::vector<std::string> flags = {"--nproc_per_node", "2", "--block_size", "512",
                                          "--memory_limit"};
  const auto with = [&](const char* limit) {
    std::vector<std::string> all = flags;
    all.push_back(limit);
    return Flags(folder_ + "/limited", 0, all);
  };
  for (const char* program : {kPretrain, "launchers/plan"}) {
    const ProgramEnd end = RunProgram(program, {.arguments = with("150MB")});
    EXPECT_EQ(end.exit_code, 2) << end.Text();
    ASSERT_EQ(end.ErrorLines().size(), 1u) << end.Text();
    EXPECT_THAT(end.ErrorLines()[0],
                testing::AllOf(testing::HasSubstr("--memory_limit is 0.15 GB: it would take"),
                               testing::HasSubstr("zero_optimization.stage 2")));
  }
  const ProgramEnd fits = RunProgram("launchers/plan", {.arguments = with("10 GiB")});
  EXPECT_EQ(fits.exit_code, 0) << fits.Text();
  EXPECT_TRUE(fits.Says("activations"));
  const ProgramEnd wrong = RunProgram("launchers/plan", {.arguments = with("much")});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_TRUE(wrong.Says("--memory_limit much is no size")) << wrong.Text();
}

}  // namespace
}  // namespace lathe
