#include "lathe/base/config/json.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"
#include "lathe/base/config/config_file.h"
#include "lathe/base/config/config_test.pb.h"
#include "lathe/base/config/field_value.h"

namespace lathe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const ConfigSchema& Schema() {
  static const ConfigSchema* const schema =
      new ConfigSchema(*ConfigSchema::Create(TestConfig::descriptor()));
  return *schema;
}

TestConfig Merged(std::string_view text) {
  TestConfig config;
  const absl::Status merged = MergeJson(Schema(), text, "run.json", &config);
  EXPECT_TRUE(merged.ok()) << merged;
  return config;
}

std::string ErrorOf(std::string_view text) {
  TestConfig config;
  const absl::Status merged = MergeJson(Schema(), text, "run.json", &config);
  EXPECT_FALSE(merged.ok());
  EXPECT_THAT(std::string(merged.message()), Not(HasSubstr("\n")));
  return std::string(merged.message());
}

TEST(MergeJsonTest, GroupedAndFlat) {
  const TestConfig config = Merged(R"({
    "model": {"dtype": "bfloat16"},
    "training": {"learning_rate": 1e-4, "max_steps": 1e3, "bf16": true, "inner": {"inner_rank": 4},
                 "report_to": ["tensorboard", "wandb"], "save_steps": 0.5, "disable_tqdm": null},
    "evaluation_strategy": "steps", "bucket_size": 2e8, "train_files": "one.jsonl",
    "lr_scheduler_kwargs": {"num_decay_steps": 10}, "resume_from_checkpoint": true
  })");
  EXPECT_EQ(config.model().torch_dtype(), "bfloat16");
  EXPECT_EQ(config.training().learning_rate(), 1e-4);
  EXPECT_EQ(config.training().max_steps(), 1000);
  EXPECT_TRUE(config.training().bf16());
  EXPECT_EQ(config.training().inner().inner_rank(), 4);
  EXPECT_THAT(config.training().report_to(), ElementsAre("tensorboard", "wandb"));
  EXPECT_EQ(config.training().save_steps(), 0.5);
  EXPECT_FALSE(config.training().has_disable_tqdm());
  EXPECT_EQ(config.training().eval_strategy(), "steps");
  EXPECT_EQ(config.training().bucket_size(), 200000000);
  EXPECT_THAT(config.training().train_files(), ElementsAre("one.jsonl"));
  EXPECT_EQ(config.training().lr_scheduler_kwargs(), R"({"num_decay_steps": 10})");
  EXPECT_EQ(config.training().resume_from_checkpoint(), "true");
}

TEST(MergeJsonTest, InnerGroupsMayBeLeftOut) {
  EXPECT_EQ(Merged(R"({"training": {"inner_rank": 4}})").training().inner().inner_rank(), 4);
  const TestConfig config = Merged(R"({"training": {"folded_size": 5, "torch_compile": false}})");
  EXPECT_EQ(config.training().folded().folded_size(), 5);
  EXPECT_THAT(ToJson(Schema(), config), HasSubstr("    \"folded_size\": 5"));
  EXPECT_THAT(DescribeChanges(Schema(), config),
              ElementsAre("training.folded_size = 5 (default 3)"));
  EXPECT_EQ(ErrorOf(R"({"training": {"inner": {"folded_size": 5}}})"),
            "run.json: unknown key training.inner.folded_size");
}

TEST(MergeJsonTest, UnknownKeysAreReportedTogetherWithTheirPath) {
  EXPECT_EQ(ErrorOf(R"({"training": {"learnin_rate": 1, "config_name": "x"}, "modle": {}})"),
            "run.json: unknown keys training.learnin_rate (did you mean learning_rate?), "
            "training.config_name, modle (did you mean model?)");
}

TEST(MergeJsonTest, ErrorsAreOneLineWhateverTheFileSays) {
  EXPECT_EQ(ErrorOf(R"({"a\nb": 1})"), "run.json: unknown key a b");
  EXPECT_EQ(ErrorOf(R"({"eval_strategy": "x\n\u001b[2J"})"),
            "run.json: eval_strategy: expected one of no, steps, epoch; got 'x  [2J'");
}

TEST(MergeJsonTest, WrongTypesNameKeyAndExpectation) {
  EXPECT_EQ(ErrorOf(R"({"training": {"learning_rate": "1e-4"}})"),
            "run.json: training.learning_rate: expected a number, got \"1e-4\"");
  EXPECT_EQ(ErrorOf(R"({"max_steps": 1.5})"),
            "run.json: max_steps: expected an integer, got '1.5'");
  EXPECT_EQ(ErrorOf(R"({"max_steps": [1]})"), "run.json: max_steps: expected an integer, got [1]");
  EXPECT_EQ(ErrorOf(R"({"bf16": "true"})"), "run.json: bf16: expected true or false, got \"true\"");
  EXPECT_EQ(ErrorOf(R"({"bf16": 1})"), "run.json: bf16: expected true or false, got 1");
  EXPECT_EQ(ErrorOf(R"({"output_dir": 3})"), "run.json: output_dir: expected a path, got 3");
  EXPECT_EQ(ErrorOf(R"({"train_files": ["a", {}]})"),
            "run.json: train_files: expected a path, got {}");
  EXPECT_EQ(ErrorOf(R"({"training": 3})"), "run.json: training: expected an object, got 3");
  EXPECT_EQ(ErrorOf(R"({"eval_strategy": "never"})"),
            "run.json: eval_strategy: expected one of no, steps, epoch; got 'never'");
  EXPECT_EQ(ErrorOf(R"({"lr_scheduler_kwargs": [1]})"),
            "run.json: lr_scheduler_kwargs: expected a JSON object, got [1]");
  EXPECT_EQ(ErrorOf("[1]"), "run.json: expected a JSON object, got [1]");
  EXPECT_THAT(ErrorOf("{\n\"bf16\": tru}"), StartsWith("run.json:2:"));
  EXPECT_EQ(ErrorOf(R"({"bf16": true, "bf16": true})"),
            "run.json: key \"bf16\" is given twice in one object");
  EXPECT_EQ(ErrorOf(R"({"bf16": true, "training": {"bf16": true}})"),
            "run.json: training.bf16: is given twice (it is training.bf16)");
  EXPECT_EQ(ErrorOf(R"({"max_steps": 99999999999999999999})"),
            "run.json: max_steps: expected an integer from -2147483648 to 2147483647, got "
            "'1e+20'");
}

TEST(MergeJsonTest, WhatIsNotImplementedIsRefused) {
  EXPECT_EQ(ErrorOf(R"({"deepspeed": {"zero_optimization": {}}})"),
            "run.json: deepspeed: is not implemented in this version: Not in this test.");
  EXPECT_EQ(ErrorOf(R"({"fp16": true})"),
            "run.json: fp16: 'true' is not implemented in this version: bf16 needs no scaling.");
  Merged(R"({"fp16": false, "deepspeed": null, "gc_kwargs": {"use_reentrant": false}})");
}

TEST(ToJsonTest, WritesTheEffectiveConfigurationAndReadsItBack) {
  TestConfig config;
  config.mutable_model()->set_config_name("qwen");
  TestTrainingArguments& training = *config.mutable_training();
  training.set_learning_rate(0.1 + 0.2);
  training.set_save_steps(0.125);
  training.set_lr_scheduler_kwargs(R"({"b": 1, "a": 2.5})");
  training.add_train_files("a");
  training.add_weights(1e-30);
  training.set_disable_tqdm(false);
  training.set_bucket_size(9007199254740993);
  const std::string json = ToJson(Schema(), config);
  EXPECT_THAT(json, StartsWith("{\n  \"model\": {\n    \"config_name\": \"qwen\",\n"));
  EXPECT_THAT(json, HasSubstr("\"learning_rate\": 0.30000000000000004,\n"));
  EXPECT_THAT(json, HasSubstr("\"max_steps\": -1,\n"));
  EXPECT_THAT(json, HasSubstr("\"lr_scheduler_kwargs\": {\n      \"b\": 1,\n"));
  EXPECT_THAT(json, Not(HasSubstr("fp16")));
  EXPECT_THAT(json, Not(HasSubstr("report_to")));

  const TestConfig back = Merged(json);
  EXPECT_EQ(ToJson(Schema(), back), json);
  for (const ConfigField& field : Schema().fields()) {
    EXPECT_EQ(ValueText(field, field.Parent(back)), ValueText(field, field.Parent(config)))
        << field.path();
  }
  // Whole ratios are integers, as in Hugging Face's files.
  training.set_save_steps(0);
  EXPECT_THAT(ToJson(Schema(), config), HasSubstr("\"save_steps\": 0,\n"));
  EXPECT_THAT(ToJson(Schema(), TestConfig()), HasSubstr("\"save_steps\": 500,\n"));
}

TEST(DescribeChangesTest, ListsWhatDiffers) {
  TestConfig config;
  EXPECT_THAT(DescribeChanges(Schema(), config), ElementsAre());
  config.mutable_training()->set_learning_rate(1e-4);
  config.mutable_training()->set_max_steps(-1);  // the default, given
  config.mutable_training()->add_train_files("a");
  config.mutable_training()->add_train_files("b");
  EXPECT_THAT(DescribeChanges(Schema(), config),
              ElementsAre("training.learning_rate = 0.0001 (default 5e-05)",
                          "training.train_files = a b (default none)"));
}

TEST(MergeTextprotoTest, ReadsAndReplacesLists) {
  TestConfig config;
  config.mutable_training()->add_train_files("bundled");
  config.mutable_training()->set_seed(1);
  const absl::Status merged = MergeTextproto(
      Schema(), "training { train_files: 'a' train_files: 'b' learning_rate: 1e-3 } # note",
      "run.textproto", &config);
  ASSERT_TRUE(merged.ok()) << merged;
  EXPECT_THAT(config.training().train_files(), ElementsAre("a", "b"));
  EXPECT_EQ(config.training().seed(), 1);
  EXPECT_EQ(config.training().learning_rate(), 1e-3);
}

TEST(MergeTextprotoTest, ErrorsNamePlaceAndSuggest) {
  const auto error = [](std::string_view text) {
    TestConfig config;
    const absl::Status merged = MergeTextproto(Schema(), text, "run.textproto", &config);
    EXPECT_FALSE(merged.ok());
    return std::string(merged.message());
  };
  EXPECT_THAT(error("training {\n  sede: 1\n}"),
              testing::AllOf(StartsWith("run.textproto:2:"), HasSubstr("no field named \"sede\""),
                             HasSubstr("(did you mean seed?)")));
  EXPECT_THAT(error("seed: 1"),
              HasSubstr("It is called training.seed: write it inside its group."));
  EXPECT_THAT(error("training { evaluation_strategy: 'no' }"),
              HasSubstr("It is called training.eval_strategy"));
  EXPECT_THAT(error("training { seed: 'x' }"), StartsWith("run.textproto:1:"));
  EXPECT_EQ(error("training { adam_beta1: 2 }"),
            "run.textproto: training.adam_beta1: expected less than 1, got 2");
  EXPECT_EQ(error("training { deepspeed: 'x' }"),
            "run.textproto: training.deepspeed: 'x' is not implemented in this version: "
            "Not in this test.");
  EXPECT_EQ(error("training { report_to: 'x' }"),
            "run.textproto: training.report_to: expected one of none, tensorboard, wandb; got 'x'");
}

}  // namespace
}  // namespace lathe
