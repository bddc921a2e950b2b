#include "lathe/peft/adapter_by_flags.h"

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lathe/base/config/json.h"
#include "lathe/base/config/schema.h"
#include "lathe/peft/peft_arguments.pb.h"

namespace lathe {
namespace {

using ::testing::HasSubstr;

constexpr char kAdapter[] = "tests/goldens/finetune/end/all_linear";

// The arguments as they come back from a run's own run_config.json, every default written out.
PeftArguments FromFile(const PeftArguments& arguments) {
  const auto schema = ConfigSchema::Create(PeftArguments::descriptor());
  PeftArguments back;
  EXPECT_TRUE(MergeJson(*schema, ToJson(*schema, arguments), "run_config.json", &back).ok());
  return back;
}

TEST(AdapterByFlagsTest, ARunsOwnConfigurationGivesTheRunAgain) {
  EXPECT_EQ(AdapterByFlags(FromFile({}))->has_value(), false);
  PeftArguments lora;
  lora.set_peft_type("lora");
  lora.set_lora_r(3);
  EXPECT_EQ((*AdapterByFlags(FromFile(lora)))->r, 3);
  PeftArguments saved;
  saved.set_adapter_name_or_path(kAdapter);
  const auto adapter = AdapterByFlags(FromFile(saved));
  ASSERT_TRUE(adapter.ok()) << adapter.status();
  EXPECT_TRUE((*adapter)->use_rslora);
}

TEST(AdapterByFlagsTest, WhatWouldBeIgnoredIsRefused) {
  PeftArguments arguments;
  arguments.set_lora_r(3);
  EXPECT_THAT(AdapterByFlags(arguments).status().message(),
              HasSubstr("--lora_r is of an adapter, and all weights would be trained"));
  arguments.set_adapter_name_or_path(kAdapter);
  EXPECT_THAT(AdapterByFlags(arguments).status().message(),
              HasSubstr("--lora_r: the adapter is as"));
  arguments.set_peft_config(std::string(kAdapter) + "/adapter_config.json");
  EXPECT_THAT(AdapterByFlags(arguments).status().message(), HasSubstr("leave --peft_config out"));
}

TEST(AdapterByFlagsTest, TargetsAreNamesOrAnExpression) {
  const auto targets = [](const std::vector<std::string>& words) {
    PeftArguments arguments;
    arguments.set_peft_type("lora");
    for (const std::string& word : words) arguments.add_target_modules(word);
    return (*AdapterByFlags(arguments))->targets.target_modules;
  };
  const std::vector<std::string> both = {"q_proj", "v_proj"};
  EXPECT_EQ(targets({"q_proj,v_proj"}).names, both);
  EXPECT_EQ(targets({"q_proj", "v_proj"}).names, both);
  EXPECT_EQ(targets({"model.layers.0.self_attn.q_proj"}).names.size(), 1u);
  EXPECT_EQ(targets({".*(q|v){1,2}_proj"}).pattern, ".*(q|v){1,2}_proj");
  EXPECT_EQ(targets({"all-linear"}).pattern, "all-linear");
}

}  // namespace
}  // namespace lathe
