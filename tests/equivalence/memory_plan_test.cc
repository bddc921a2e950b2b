// What //launchers:plan predicts against what the run's allocator counts, of the largest rank: real
// runs of the program.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
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
  // What stands in the DeepSpeed file's zero_optimization, FOLDER for one of the test's; "": no
  // file.
  const char* zero;
  std::vector<std::string> flags;
  double tolerance = 0.02;
};

class MemoryPlanTest : public testing::Test {
 protected:
  // Enough text for an update of any case.
  MemoryPlanTest() {
    const std::string line = nlohmann::json{{"text", std::string(1000, 'a')}}.dump() + "\n";
    std::string text;
    for (int i = 0; i < 40; ++i) text += line;
    WriteFile(tiny_.train_file(), text);
  }
  // Tens of megabytes of weights and of activations.
  void SetModel(int vocab_size, int num_layers = 4) {
    nlohmann::json config = TinyModelConfig(num_layers);
    config["hidden_size"] = 256;
    config["intermediate_size"] = 768;
    config["num_attention_heads"] = 8;
    config["num_key_value_heads"] = 4;
    config["head_dim"] = 32;
    config["vocab_size"] = vocab_size;
    config["max_position_embeddings"] = 1024;
    WriteFile(tiny_.model_folder() + "/config.json", config.dump());
  }
  std::vector<std::string> Flags(const std::string& out, const std::string& zero,
                                 const std::vector<std::string>& flags) {
    std::vector<std::string> all = {"--max_steps", "2", "--save_strategy", "no"};
    const auto add = [&](const char* name, const char* value) {
      if (std::find(flags.begin(), flags.end(), name) == flags.end()) {
        all.insert(all.end(), {name, value});
      }
    };
    add("--per_device_train_batch_size", "2");
    add("--gradient_accumulation_steps", "1");
    add("--block_size", "256");
    if (!zero.empty()) {
      const std::string json = absl::StrCat(folder_, "/zero.json");
      WriteFile(json, absl::StrCat(R"({"zero_optimization": {"reduce_bucket_size": 4e6, )",
                                   absl::StrReplaceAll(zero, {{"FOLDER", folder_}}), "}}"));
      all.insert(all.end(), {"--deepspeed", json});
    }
    all.insert(all.end(), flags.begin(), flags.end());
    return tiny_.Flags(out, all);
  }

  const std::string folder_ = NewFolder();
  const TinyPretraining tiny_{folder_};
};

class PredictedMemoryTest : public MemoryPlanTest, public testing::WithParamInterface<Case> {};

TEST_P(PredictedMemoryTest, IsWhatTheRunTakes) {
  const Case& c = GetParam();
  SetModel(c.vocab_size);
  const std::string out = folder_ + "/out";
  const ProgramEnd end = RunProgram(kPretrain, {.arguments = Flags(out, c.zero, c.flags)});
  ASSERT_EQ(end.exit_code, 0) << end.Text();
  const nlohmann::json results = nlohmann::json::parse(ReadFile(out + "/train_results.json"));
  const double predicted = results["predicted_memory_bytes"];
  const double measured = results["measured_memory_bytes"];
  std::printf("%-22s predicted %6.1f MB, measured %6.1f MB, %+.2f %%\n", c.name, predicted / 1e6,
              measured / 1e6, 100 * (predicted / measured - 1));
  EXPECT_GT(measured, 40e6);
  EXPECT_LT(std::abs(predicted / measured - 1), c.tolerance);
}

INSTANTIATE_TEST_SUITE_P(
    Runs, PredictedMemoryTest,
    testing::Values(
        Case{"One", 8000, "", {}},
        Case{"Bf16Recompute",
             8000,
             "",
             {"--bf16", "--gradient_checkpointing", "--block_size", "512"}},
        Case{"LargeVocabulary", 60000, "", {"--block_size", "64"}},
        Case{"Fp16Accumulation", 8000, "", {"--fp16", "--gradient_accumulation_steps", "3"}},
        Case{"SgdEvaluates",
             8000,
             "",
             {"--optim", "sgd", "--do_eval", "--validation_split_percentage", "20",
              "--per_device_eval_batch_size", "8"}},
        Case{"Dp2", 8000, "", {"--nproc_per_node", "2"}},
        Case{"Dp2Stage1Bf16", 8000, R"("stage": 1)", {"--nproc_per_node", "2", "--bf16"}},
        Case{"Dp2Stage1EightBit",
             8000,
             R"("stage": 1)",
             {"--nproc_per_node", "2", "--optim", "adamw_8bit"}},
        Case{"Dp4Stage1Adafactor",
             8000,
             R"("stage": 1)",
             {"--nproc_per_node", "4", "--optim", "adafactor"}},
        Case{"Dp2Stage2", 8000, R"("stage": 2)", {"--nproc_per_node", "2"}},
        Case{"Dp2Stage2Bf16Gradients",
             8000,
             R"("stage": 2)",
             {"--nproc_per_node", "2", "--bf16", "--grad_accum_dtype", "bf16",
              "--gradient_accumulation_steps", "3"}},
        Case{"Dp2Stage2Muon", 8000, R"("stage": 2)", {"--nproc_per_node", "2", "--optim", "muon"}},
        Case{"Dp2Stage3", 8000, R"("stage": 3)", {"--nproc_per_node", "2"}},
        Case{"Dp4Stage3NeverReshards",
             8000,
             R"("stage": 3)",
             {"--nproc_per_node", "4", "--gradient_accumulation_steps", "2",
              "--reshard_after_forward", "never"}},
        Case{"Tp2Sequence",
             8000,
             "",
             {"--nproc_per_node", "2", "--tensor_model_parallel_size", "2", "--sequence_parallel"}},
        Case{"Tp2Dp2Stage3Recompute",
             8000,
             R"("stage": 3)",
             {"--nproc_per_node", "4", "--tensor_model_parallel_size", "2",
              "--gradient_checkpointing"}},
        Case{"Pp2", 8000, "", {"--nproc_per_node", "2", "--pipeline_model_parallel_size", "2"}},
        Case{"Pp2Dp2Stage2",
             8000,
             R"("stage": 2)",
             {"--nproc_per_node", "4", "--pipeline_model_parallel_size", "2",
              "--gradient_accumulation_steps", "4", "--block_size", "128"}},
        Case{
            "Pp2Interleaved",
            8000,
            "",
            {"--nproc_per_node", "2", "--pipeline_model_parallel_size", "2",
             "--num_layers_per_virtual_pipeline_stage", "1", "--gradient_accumulation_steps", "8"}},
        Case{"Pp2ZeroBubble",
             8000,
             R"("stage": 1)",
             {"--nproc_per_node", "2", "--pipeline_model_parallel_size", "2", "--pipeline_schedule",
              "zb-h1", "--gradient_accumulation_steps", "5"}},
        Case{"Stage3OnDisk",
             8000,
             R"("stage": 3, "offload_optimizer": {"device": "nvme", "nvme_path": "FOLDER"},
                "offload_param": {"device": "nvme", "nvme_path": "FOLDER", "max_in_cpu": 0})",
             {}},
        Case{"Dp2Stage3PartOnDisk",
             8000,
             R"("stage": 3, "offload_param": {"device": "nvme", "nvme_path": "FOLDER",
                "max_in_cpu": 15e5})",
             {"--nproc_per_node", "2"},
             0.05},  // the memory of transfers is not counted
        Case{"Dp2Stage3HostWeights",
             8000,
             R"("stage": 3, "offload_param": {"device": "cpu"})",
             {"--nproc_per_node", "2"}}),
    [](const auto& info) { return std::string(info.param.name); });

// Not in construction either: a rank's weights and gradients are 8 / 4 bytes a parameter.
TEST_F(MemoryPlanTest, Stage3NeverHoldsTheWholeModel) {
  SetModel(2000, /*num_layers=*/24);
  const std::string out = folder_ + "/out";
  const ProgramEnd end = RunProgram(
      kPretrain,
      {.arguments = Flags(out, R"("stage": 3, "stage3_prefetch_bucket_size": 0)",
                          {"--nproc_per_node", "4", "--optim", "sgd", "--block_size", "16",
                           "--gradient_checkpointing", "--reshard_after_forward", "always"})});
  ASSERT_EQ(end.exit_code, 0) << end.Text();
  const nlohmann::json results = nlohmann::json::parse(ReadFile(out + "/train_results.json"));
  const double whole = static_cast<double>(ReadFile(out + "/model.safetensors").size());
  const double measured = results["measured_memory_bytes"];
  std::printf("weights %.1f MB, measured %.1f MB\n", whole / 1e6, measured / 1e6);
  EXPECT_LT(measured, 0.75 * whole);
}

TEST_F(MemoryPlanTest, TheLimitRefusesAndProposes) {
  SetModel(8000);
  const std::vector<std::string> flags = {"--nproc_per_node", "2", "--block_size", "512",
                                          "--memory_limit"};
  const auto with = [&](const char* limit) {
    std::vector<std::string> all = flags;
    all.push_back(limit);
    return Flags(folder_ + "/limited", "", all);
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
  // What stage 3's gathered weights do is not in the way of another change.
  for (const char* reshard : {"never", "always"}) {
    const ProgramEnd end = RunProgram(
        "launchers/plan",
        {.arguments = Flags(folder_ + "/limited", R"("stage": 3)",
                            {"--nproc_per_node", "2", "--block_size", "512",
                             "--reshard_after_forward", reshard, "--memory_limit", "150MB"})});
    EXPECT_EQ(end.exit_code, 2);
    EXPECT_THAT(end.Text(), testing::HasSubstr("it would take"));
  }
  const ProgramEnd wrong = RunProgram("launchers/plan", {.arguments = with("much")});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_TRUE(wrong.Says("--memory_limit much is no size")) << wrong.Text();
}

// The peak that a proposal names is the peak of the run that it proposes, with no change to spare.
TEST_F(MemoryPlanTest, WhatIsProposedFits) {
  SetModel(8000);
  const auto plan = [&](const std::string& zero, std::vector<std::string> flags) {
    flags.insert(flags.end(), {"--nproc_per_node", "2", "--block_size", "512"});
    return RunProgram("launchers/plan", {.arguments = Flags(folder_ + "/out", zero, flags)});
  };
  // What was tried before and turned out to be needless, stage 2, is not in it.
  const std::vector<std::string> changes = {"--gradient_checkpointing",
                                            "--tensor_model_parallel_size", "2"};
  const ProgramEnd refused = plan("", {"--memory_limit", "100MB"});
  EXPECT_THAT(refused.Text(), testing::HasSubstr(absl::StrCat(
                                  "GB with --gradient_checkpointing and ", changes[1], " 2")));
  std::vector<std::string> flags = {"--memory_limit", "100MB"};
  flags.insert(flags.end(), changes.begin(), changes.end());
  const ProgramEnd taken = plan("", flags);
  EXPECT_EQ(taken.exit_code, 0) << taken.Text();
  // What nothing but a disk holds.
  const ProgramEnd disk = plan("", {"--memory_limit", "70MB"});
  EXPECT_THAT(disk.Text(), testing::HasSubstr("offload_optimizer.device \"nvme\""));
  const ProgramEnd never = plan("", {"--memory_limit", "1MB"});
  EXPECT_THAT(never.Text(), testing::HasSubstr("use more ranks"));
}

// Another machine may hold it.
TEST_F(MemoryPlanTest, PlansWhatThisMachineCannotHold) {
  nlohmann::json config = TinyModelConfig(/*num_layers=*/80);
  config.update({{"hidden_size", 8192},
                 {"intermediate_size", 28672},
                 {"vocab_size", 128256},
                 {"num_attention_heads", 64},
                 {"num_key_value_heads", 8},
                 {"head_dim", 128}});
  WriteFile(tiny_.model_folder() + "/config.json", config.dump());
  const std::vector<std::string> flags = {"--nproc_per_node", "8", "--bf16", "--block_size", "64"};
  const ProgramEnd plan =
      RunProgram("launchers/plan", {.arguments = Flags(folder_ + "/out", R"("stage": 3)", flags)});
  EXPECT_EQ(plan.exit_code, 0) << plan.Text();
  EXPECT_TRUE(plan.Says("peak MB")) << plan.Text();
  const ProgramEnd run =
      RunProgram(kPretrain, {.arguments = Flags(folder_ + "/out", R"("stage": 3)", flags)});
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_TRUE(run.Says("this machine has")) << run.Text();
}

}  // namespace
}  // namespace lathe
