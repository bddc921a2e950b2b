// Against TRL's SFTTrainer and peft: the same model, chats, adapter and arguments give the same
// losses and gradient norms, and the same adapter in the same files (tests/goldens/finetune).
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "ATen/core/Tensor.h"
#include "gtest/gtest.h"
#include "lathe/tests/parity/pretrain_run.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

// What the project promises is 2e-4 (losses) and 0.01 (weights); these are the noise between two
// correct fp32 runs with some room.
constexpr double kLoss = 2e-6, kGradNorm = 2e-5, kWeights = 2e-4;

const char kGoldens[] = "tests/goldens/finetune/";

std::vector<std::string> DataFlags(const std::string& tokenizer, const std::string& rows) {
  return {"--tokenizer_name", "tests/goldens/" + tokenizer, "--train_files", kGoldens + rows};
}

PretrainRun RunCase(const std::string& name, const nlohmann::json& golden,
                    const std::vector<std::string>& more,
                    const std::vector<std::string>& data = DataFlags("parity/tokenizer",
                                                                     "train.jsonl")) {
  const std::string parity = "tests/goldens/parity/";
  std::vector<std::string> flags = {
      "--model_name_or_path", parity + "models/" + golden["model"].get<std::string>(),
      "--logging_steps",      "1",
      "--save_strategy",      "no"};
  for (const std::string& flag : FlagsFromJson(golden["arguments"])) flags.push_back(flag);
  flags.insert(flags.end(), data.begin(), data.end());
  flags.insert(flags.end(), more.begin(), more.end());
  return RunLauncher("finetune", name, flags);
}

void ExpectHistory(const PretrainRun& run, const std::string& key, const nlohmann::json& theirs,
                   double tolerance) {
  const std::vector<double> ours = History(run, key);
  ASSERT_EQ(ours.size(), theirs.size());
  for (size_t i = 0; i < ours.size(); ++i) {
    const double value = theirs[i];
    EXPECT_LT(std::abs(ours[i] - value), tolerance * value) << key << " of update " << i + 1;
  }
}

TEST(FinetuneParityTest, AllWeights) {
  const nlohmann::json golden = ReadJson(std::string(kGoldens) + "full.json");
  const PretrainRun run = RunCase("full", golden, {});
  ASSERT_EQ(run.exit_code, 0) << run.output;
  ExpectHistory(run, "loss", golden["losses"], kLoss);
  ExpectHistory(run, "grad_norm", golden["grad_norms"], kGradNorm);
}

// Samples of a batch differ in length: a pipeline fills the micro batches of an update up to one,
// and a split sequence is filled up to a multiple of its ranks.
TEST(FinetuneParityTest, OtherLayouts) {
  const nlohmann::json golden = ReadJson(std::string(kGoldens) + "full.json");
  const std::vector<std::pair<std::string, std::vector<std::string>>> layouts = {
      {"pp2", {"--nproc_per_node", "2", "--pipeline_model_parallel_size", "2"}},
      {"tp2",
       {"--nproc_per_node", "2", "--tensor_model_parallel_size", "2", "--sequence_parallel"}}};
  for (const auto& [name, flags] : layouts) {
    const PretrainRun run = RunCase(name, golden, flags);
    ASSERT_EQ(run.exit_code, 0) << run.output;
    ExpectHistory(run, "loss", golden["losses"], kLoss);
    ExpectHistory(run, "grad_norm", golden["grad_norms"], kGradNorm);
  }
}

// The tokenizer has three tokens more than the model.
TEST(FinetuneParityTest, ResizedEmbedding) {
  const nlohmann::json golden = ReadJson(std::string(kGoldens) + "resized.json");
  const PretrainRun run =
      RunCase("resized", golden, {}, DataFlags("finetune/tokenizer", "marked.jsonl"));
  ASSERT_EQ(run.exit_code, 0) << run.output;
  // transformers draws the new rows around their mean, some 1e-6 apart.
  ExpectHistory(run, "loss", golden["losses"], 10 * kLoss);
  ExpectHistory(run, "grad_norm", golden["grad_norms"], 10 * kGradNorm);
  const auto weights = ReadWeights(run.folder + "/model.safetensors");
  EXPECT_EQ(weights.at("model.embed_tokens.weight").size(0), 291);
  EXPECT_EQ(ReadJson(run.folder + "/config.json")["vocab_size"], 291);

  const PretrainRun adapter = RunCase("resized_lora", golden, {"--peft_type", "lora"},
                                      DataFlags("finetune/tokenizer", "marked.jsonl"));
  EXPECT_EQ(adapter.exit_code, 2);
  EXPECT_NE(adapter.output.find("has 291 tokens, the model 288"), std::string::npos)
      << adapter.output;
}

class LoraParityTest : public testing::TestWithParam<const char*> {};

TEST_P(LoraParityTest, EqualsPeft) {
  const std::string name = GetParam(), goldens = kGoldens;
  const nlohmann::json golden = ReadJson(goldens + name + ".json");
  const PretrainRun run =
      RunCase(name, golden, {"--adapter_name_or_path", goldens + "start/" + name});
  ASSERT_EQ(run.exit_code, 0) << run.output;
  ExpectHistory(run, "loss", golden["losses"], kLoss);
  ExpectHistory(run, "grad_norm", golden["grad_norms"], kGradNorm);

  const std::string file = "/adapter_model.safetensors";
  const auto ours = ReadWeights(run.folder + file);
  const auto theirs = ReadWeights(goldens + "end/" + name + file);
  const auto start = ReadWeights(goldens + "start/" + name + file);
  ASSERT_EQ(ours.size(), theirs.size());
  for (const auto& [key, tensor] : theirs) {
    ASSERT_TRUE(ours.contains(key)) << key;
    const double moved = tensor.sub(start.at(key)).norm().item().toDouble();
    const double apart = ours.at(key).sub(tensor).norm().item().toDouble();
    EXPECT_LE(apart, kWeights * moved) << key;
  }

  // Every key that peft wrote, with its value but for the order of sets and whose model it is.
  nlohmann::json our_config = ReadJson(run.folder + "/adapter_config.json");
  nlohmann::json their_config = ReadJson(goldens + "end/" + name + "/adapter_config.json");
  for (nlohmann::json* config : {&our_config, &their_config}) {
    ASSERT_TRUE(config->is_object());
    config->erase("base_model_name_or_path");
    for (const char* key : {"target_modules", "modules_to_save"}) {
      if ((*config)[key].is_array()) std::sort((*config)[key].begin(), (*config)[key].end());
    }
  }
  EXPECT_EQ(our_config, their_config) << nlohmann::json::diff(their_config, our_config);
}

TEST(MergeAdapterTest, EqualsPeft) {
  const std::string goldens = kGoldens, parity = "tests/goldens/parity/";
  const PretrainRun run = RunProgram("launchers/merge_adapter", "merged",
                                     {"--adapter_name_or_path", goldens + "end/usual_targets",
                                      "--model_name_or_path", parity + "models/qwen2"});
  ASSERT_EQ(run.exit_code, 0) << run.output;
  EXPECT_NE(run.output.find("Merged 4 weights and replaced 4 tensors"), std::string::npos)
      << run.output;
  const auto ours = ReadWeights(run.folder + "/model.safetensors");
  const auto theirs = ReadWeights(goldens + "merged.safetensors");
  ASSERT_EQ(ours.size(), theirs.size());
  for (const auto& [key, tensor] : theirs) {
    ASSERT_TRUE(ours.contains(key)) << key;
    // Each rounds one sum in fp32.
    EXPECT_LT(ours.at(key).sub(tensor).abs().max().item().toDouble(), 1e-7) << key;
  }
  EXPECT_TRUE(ReadJson(run.folder + "/config.json").is_object());
}

INSTANTIATE_TEST_SUITE_P(, LoraParityTest,
                         testing::Values("usual_targets", "all_linear", "saved_head"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace lathe
