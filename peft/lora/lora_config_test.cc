#include "lathe/peft/lora/lora_config.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lathe/peft/lora/lora_scale.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

using ::testing::HasSubstr;

constexpr char kAllLinear[] = "tests/goldens/finetune/end/all_linear/adapter_config.json";

std::string Error(const std::string& text) {
  return std::string(ParseLoraConfig(text, "a.json").status().message());
}

TEST(LoraConfigTest, WhatPeftWroteComesBackAsItWas) {
  const auto config = ReadLoraConfig(kAllLinear);
  ASSERT_TRUE(config.ok()) << config.status();
  const std::string once = WriteLoraConfig(*config, "base");
  const auto again = ParseLoraConfig(once, "again");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(WriteLoraConfig(*again, "base"), once);
  const nlohmann::json json = nlohmann::json::parse(once);
  EXPECT_EQ(json["base_model_name_or_path"], "base");
  EXPECT_EQ(json["rank_pattern"]["down_proj"], 5);
  EXPECT_EQ(json["bias"], "all");
  EXPECT_TRUE(json["use_rslora"]);
}

TEST(LoraConfigTest, KeysThatNobodyKnowsAreWrittenBack) {
  const auto config = ParseLoraConfig(
      R"({"peft_type": "LORA", "target_modules": ["q_proj"], "of_tomorrow": [1, 2]})", "a.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(nlohmann::json::parse(WriteLoraConfig(*config, ""))["of_tomorrow"],
            nlohmann::json({1, 2}));
}

TEST(LoraConfigTest, DefaultsArePefts) {
  const auto config = ParseLoraConfig(R"({"peft_type": "LORA"})", "a.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->r, 8);
  EXPECT_EQ(config->alpha, 8);
  EXPECT_EQ(config->dropout, 0);
  EXPECT_TRUE(config->targets.target_modules.empty());
  LoraConfig resolved = *config;
  EXPECT_FALSE(ResolveTargets("mixtral", &resolved).ok());
  ASSERT_TRUE(ResolveTargets("llama", &resolved).ok());
  EXPECT_EQ(resolved.targets.target_modules.names, (std::vector<std::string>{"q_proj", "v_proj"}));
}

TEST(LoraConfigTest, ScalesByPattern) {
  const auto config = ReadLoraConfig(kAllLinear);
  ASSERT_TRUE(config.ok()) << config.status();
  const auto scale = LoraScale::Create(*config);
  ASSERT_TRUE(scale.ok()) << scale.status();
  EXPECT_EQ(scale->Rank("model.layers.0.self_attn.q_proj"), 2);
  EXPECT_EQ(scale->Rank("model.layers.1.self_attn.q_proj"), 3);
  EXPECT_EQ(scale->Rank("model.layers.1.mlp.down_proj"), 5);
  EXPECT_DOUBLE_EQ(scale->Scaling("model.layers.0.self_attn.q_proj"), 6 / std::sqrt(2));
  EXPECT_DOUBLE_EQ(scale->Scaling("model.layers.0.self_attn.o_proj"), 11 / std::sqrt(2));
}

TEST(LoraConfigTest, WhatIsWrongIsNamed) {
  EXPECT_THAT(Error("[]"), HasSubstr("a.json is no object"));
  EXPECT_THAT(Error("{"), HasSubstr("a.json:1:"));
  EXPECT_THAT(Error("{}"), HasSubstr("peft_type null is not implemented"));
  EXPECT_THAT(Error(R"({"peft_type": "IA3"})"), HasSubstr("peft_type \"IA3\""));
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"("r": 0)", "r is 0, expected a rank"},
      {R"("r": 2.5)", "r is 2.5, expected a rank"},
      {R"("r": "8")", "r is \"8\", expected a rank"},
      {R"("lora_alpha": "a")", "lora_alpha is \"a\", expected a number"},
      {R"("lora_dropout": 1)", "lora_dropout is 1"},
      {R"("bias": "some")", "bias is \"some\", expected none, lora_only or all"},
      {R"("target_modules": 3)", "target_modules is 3, expected a list"},
      {R"("target_modules": [3])", "target_modules is [3], expected a list"},
      {R"("modules_to_save": "lm_head")", "modules_to_save is \"lm_head\", expected a list"},
      {R"("layers_to_transform": [-1])", "layers_to_transform is [-1]"},
      {R"("rank_pattern": {"q": 0})", "rank_pattern is 0"},
      {R"("use_rslora": 1)", "use_rslora is 1, expected true or false"},
      {R"("init_lora_weights": "pissa")", "init_lora_weights \"pissa\" is not implemented"},
      {R"("use_dora": true)", "use_dora is not implemented"},
      {R"("fan_in_fan_out": true)", "fan_in_fan_out is not implemented"},
      {R"("target_parameters": ["w"])", "target_parameters is not implemented"},
  };
  for (const auto& [field, message] : cases) {
    EXPECT_THAT(Error("{\"peft_type\": \"LORA\", " + field + "}"), HasSubstr(message));
  }
}

}  // namespace
}  // namespace lathe
