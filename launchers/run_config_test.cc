#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lathe/base/config/field_value.h"
#include "lathe/base/config/flags.h"
#include "lathe/base/config/json.h"
#include "lathe/base/config/schema.h"
#include "lathe/base/python_json.h"
#include "lathe/launchers/run_config.pb.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

using ::testing::HasSubstr;

const ConfigSchema& Schema() {
  static const auto* const schema =
      new absl::StatusOr<ConfigSchema>(ConfigSchema::Create(PretrainConfig::descriptor()));
  EXPECT_TRUE(schema->ok()) << schema->status();
  return **schema;
}

// The message of the error, or "" when the flags parse.
std::string Parse(const std::vector<std::string>& arguments, PretrainConfig* config) {
  std::vector<const char*> argv = {"pretrain"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  const absl::StatusOr<ParsedFlags> parsed = ParseFlags(static_cast<int>(argv.size()), argv.data(),
                                                        {.width = 80, .colour = false}, config);
  return std::string(parsed.status().message());
}

std::string Parse(const std::vector<std::string>& arguments) {
  PretrainConfig config;
  return Parse(arguments, &config);
}

// pretrain.sh of the seed's section 6.1.5, but for --deepspeed.
const std::vector<std::string>& SeedFlags() {
  static const auto* const flags = new std::vector<std::string>{
      "--config_name",
      "autodl-tmp/qwen-1.5b",
      "--tokenizer_name",
      "autodl-tmp/qwen-1.5b",
      "--train_files",
      "autodl-tmp/dataset/pretrain_data/mobvoi_seq_monkey_general_open_corpus_small.jsonl",
      "--per_device_train_batch_size",
      "16",
      "--gradient_accumulation_steps",
      "4",
      "--do_train",
      "--output_dir",
      "autodl-tmp/output/pretrain",
      "--evaluation_strategy",
      "no",
      "--learning_rate",
      "1e-4",
      "--num_train_epochs",
      "1",
      "--warmup_steps",
      "200",
      "--logging_dir",
      "autodl-tmp/output/pretrain/logs",
      "--logging_strategy",
      "steps",
      "--logging_steps",
      "5",
      "--save_strategy",
      "steps",
      "--save_steps",
      "100",
      "--preprocessing_num_workers",
      "10",
      "--save_total_limit",
      "1",
      "--seed",
      "12",
      "--block_size",
      "2048",
      "--bf16",
      "--gradient_checkpointing",
      "--report_to",
      "swanlab"};
  return *flags;
}

TEST(RunConfigTest, TheSeedsFlagsParse) {
  unsetenv("BUILD_WORKING_DIRECTORY");
  PretrainConfig config;
  ASSERT_EQ(Parse(SeedFlags(), &config), "");
  EXPECT_EQ(config.model().config_name(), "autodl-tmp/qwen-1.5b");
  EXPECT_EQ(config.data().block_size(), 2048);
  EXPECT_EQ(config.data().train_files_size(), 1);
  EXPECT_EQ(config.training().per_device_train_batch_size(), 16);
  EXPECT_EQ(config.training().eval_strategy(), "no");
  EXPECT_EQ(config.training().warmup_steps(), 200);
  EXPECT_TRUE(config.training().bf16());
  EXPECT_TRUE(config.training().gradient_checkpointing());
  EXPECT_EQ(config.training().report_to(0), "swanlab");
}

TEST(RunConfigTest, TheSeedsDeepSpeedFlagIsAPathOfTheUser) {
  std::vector<std::string> flags = SeedFlags();
  flags.insert(flags.end(), {"--deepspeed", "./ds_config_zero2.json"});
  setenv("BUILD_WORKING_DIRECTORY", "/where/the/user/is", 1);
  PretrainConfig config;
  ASSERT_EQ(Parse(flags, &config), "");
  unsetenv("BUILD_WORKING_DIRECTORY");
  EXPECT_EQ(config.training().deepspeed(), "/where/the/user/is/ds_config_zero2.json");
}

// What Hugging Face calls the default, as --explain prints values.
std::string PythonText(const nlohmann::json& value) {
  if (value.is_null() || (value.is_structured() && value.empty())) return "";
  if (value.is_string()) return value.get<std::string>() == "none" ? "" : value.get<std::string>();
  if (value.is_number_float()) return PythonFloat(value.get<double>());
  return value.dump();
}

TEST(RunConfigTest, KnowsEveryTrainingArgumentOfHuggingFaceWithItsDefault) {
  // Where this launcher means it otherwise, and fields that no command line can give.
  const std::set<std::string> different = {
      "do_train",    // training is what a launcher does
      "output_dir",  // None, which __post_init__ makes trainer_output
  };
  const std::set<std::string> absent = {
      "trackio_bucket_id",
      "trackio_static_space_id",  // accounts of one service
  };
  std::ifstream file("launchers/testdata/training_arguments.json");
  ASSERT_TRUE(file.is_open());
  const nlohmann::json golden = nlohmann::json::parse(file);
  ASSERT_GT(golden.size(), 100u);
  const PretrainConfig config;
  for (auto it = golden.begin(); it != golden.end(); ++it) {
    const ConfigField* field = Schema().Find(it.key());
    EXPECT_EQ(field == nullptr, absent.contains(it.key())) << it.key();
    if (field == nullptr || different.contains(it.key())) continue;
    std::string ours = ValueText(*field, field->Parent(config));
    std::string theirs = PythonText(it.value());
    // 0 and 0.0 are one default of a field that Python declares float.
    if (absl::EndsWith(ours, ".0")) ours.resize(ours.size() - 2);
    if (absl::EndsWith(theirs, ".0")) theirs.resize(theirs.size() - 2);
    EXPECT_EQ(ours, theirs) << it.key();
  }
}

TEST(RunConfigTest, ValuesThatAskForNothingAreAccepted) {
  for (const std::string& flags :
       std::vector<std::string>{"--fp16 false",
                                "--no_fp16",
                                "--eval_strategy no",
                                "--report_to none",
                                "--push_to_hub false",
                                "--torch_compile False",
                                "--tf32 false",
                                "--no_cuda",
                                "--ddp_find_unused_parameters false",
                                "--dataloader_pin_memory false",
                                "--remove_unused_columns false",
                                "--optim adamw_torch",
                                "--local_rank -1",
                                "--pipeline_model_parallel_size 1",
                                "--tensor-model-parallel-size 1",
                                "--save_safetensors",
                                "--trust_remote_code false",
                                "--use_fast_tokenizer true",
                                "--attn_implementation sdpa",
                                "--full_determinism",
                                "--overwrite_cache",
                                "--gradient_checkpointing_kwargs {\"use_reentrant\":false}",
                                "--max_steps -1",
                                "--warmup_ratio 0.03",
                                "--warmup_steps 0.03",
                                "--dtype auto",
                                "--activation_checkpointing",
                                "--train_file a.jsonl",
                                "--group_by_length false"}) {
    const std::vector<std::string> split = absl::StrSplit(flags, ' ');
    EXPECT_EQ(Parse(split), "") << flags;
  }
}

TEST(RunConfigTest, WhatIsNotThereIsRefusedByName) {
  for (const std::string& flags :
       std::vector<std::string>{"--push_to_hub",
                                "--torch_compile",
                                "--tf32 true",
                                "--fsdp full_shard",
                                "--optim galore_adamw",
                                "--lr_scheduler_type greedy",
                                "--report_to mlflow",
                                "--context_parallel_size 2",
                                "--expert_model_parallel_size 2",
                                "--trust_remote_code",
                                "--torch_dtype float16",
                                "--neftune_noise_alpha 5",
                                "--label_smoothing_factor 0.1",
                                "--train_sampling_strategy group_by_length",
                                "--group_by_length",
                                "--save_only_model",
                                "--overwrite_output_dir",
                                "--dataset_name x",
                                "--ddp_backend mpi",
                                "--hub_token secret",
                                "--average_tokens_across_devices false"}) {
    const std::vector<std::string> split = absl::StrSplit(flags, ' ');
    EXPECT_THAT(Parse(split), testing::AllOf(HasSubstr(split[0]), HasSubstr("not implemented")))
        << flags;
  }
}

TEST(RunConfigTest, ANotImplementedFlagsDefaultAndNeutralValuesPass) {
  for (const ConfigField& field : Schema().fields()) {
    PretrainConfig config;
    google::protobuf::Message* parent = field.MutableParent(&config);
    std::vector<std::string> values(field.spec().neutral().begin(), field.spec().neutral().end());
    if (HasValue(field, *parent)) values.push_back(ValueText(field, *parent));
    for (const std::string& value : values) {
      EXPECT_TRUE(SetFromText(field, value, parent).ok()) << field.path() << " " << value;
      parent->GetReflection()->ClearField(parent, field.field());
    }
  }
}

TEST(RunConfigTest, TheConfigurationSurvivesItsJson) {
  PretrainConfig config;
  ASSERT_EQ(Parse(SeedFlags(), &config), "");
  const std::string json = ToJson(Schema(), config);
  PretrainConfig back;
  ASSERT_TRUE(MergeJson(Schema(), json, "copy.json", &back).ok());
  EXPECT_EQ(ToJson(Schema(), back), json);
  EXPECT_EQ(DescribeChanges(Schema(), back), DescribeChanges(Schema(), config));
}

TEST(RunConfigTest, HelpNamesEveryFlag) {
  PretrainConfig config;
  const std::vector<const char*> argv = {"pretrain", "--help"};
  const auto parsed = ParseFlags(2, argv.data(), {.width = 80, .colour = false}, &config);
  ASSERT_TRUE(parsed.ok());
  for (const ConfigField& field : Schema().fields()) {
    EXPECT_THAT(parsed->print, HasSubstr(absl::StrCat("--", field.name())));
  }
}

}  // namespace
}  // namespace lathe
