#include "lathe/zero/deepspeed_json.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lathe/zero/deepspeed_keys.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;
using ::testing::StartsWith;

DeepSpeedJson Parsed(const std::string& text) {
  const absl::StatusOr<DeepSpeedJson> json = ParseDeepSpeedJson(text, "ds.json");
  EXPECT_TRUE(json.ok()) << json.status() << "\n" << text;
  return json.ok() ? *json : DeepSpeedJson();
}

std::string ErrorOf(const std::string& text) {
  const absl::StatusOr<DeepSpeedJson> json = ParseDeepSpeedJson(text, "ds.json");
  EXPECT_FALSE(json.ok()) << text;
  EXPECT_EQ(json.status().code(), absl::StatusCode::kInvalidArgument) << text;
  EXPECT_THAT(std::string(json.status().message()), Not(HasSubstr("\n")));
  return std::string(json.status().message());
}

TEST(DeepSpeedJsonTest, TheSeedsFileIsRead) {
  const absl::StatusOr<DeepSpeedJson> read =
      ReadDeepSpeedJson("zero/testdata/ds_config_zero2.json");
  ASSERT_TRUE(read.ok()) << read.status();
  const DeepSpeedJson& json = *read;
  EXPECT_TRUE(json.fp16.enabled.is_auto);
  EXPECT_EQ(json.fp16.loss_scale.value, 0);
  EXPECT_EQ(json.fp16.loss_scale_window.value, 1000);
  EXPECT_EQ(json.fp16.initial_scale_power.value, 16);
  EXPECT_EQ(json.fp16.hysteresis.value, 2);
  EXPECT_EQ(json.fp16.min_loss_scale.value, 1);
  EXPECT_TRUE(json.fp16.consecutive_hysteresis.is_absent());
  EXPECT_TRUE(json.bf16_enabled.is_auto);
  ASSERT_TRUE(json.optimizer.has_value());
  EXPECT_EQ(json.optimizer->type, "AdamW");
  EXPECT_TRUE(json.optimizer->lr.is_auto);
  EXPECT_TRUE(json.optimizer->betas.is_auto);
  EXPECT_TRUE(json.optimizer->eps.is_auto);
  EXPECT_TRUE(json.optimizer->weight_decay.is_auto);
  ASSERT_TRUE(json.scheduler.has_value());
  EXPECT_EQ(json.scheduler->type, "WarmupLR");
  EXPECT_TRUE(json.scheduler->warmup_min_lr.is_auto);
  EXPECT_TRUE(json.scheduler->warmup_max_lr.is_auto);
  EXPECT_TRUE(json.scheduler->warmup_num_steps.is_auto);
  EXPECT_TRUE(json.scheduler->warmup_type.is_absent());
  const DeepSpeedZero& zero = json.zero_optimization;
  EXPECT_EQ(zero.stage.value, 2);
  EXPECT_EQ(zero.allgather_bucket_size.value, 200'000'000);
  EXPECT_EQ(zero.reduce_bucket_size.value, 200'000'000);
  EXPECT_EQ(zero.overlap_comm.value, true);
  EXPECT_EQ(zero.contiguous_gradients.value, true);
  EXPECT_EQ(zero.offload_optimizer.device.value, "none");
  EXPECT_EQ(zero.offload_optimizer.pin_memory.value, true);
  EXPECT_TRUE(json.gradient_accumulation_steps.is_auto);
  EXPECT_TRUE(json.gradient_clipping.is_auto);
  EXPECT_TRUE(json.train_batch_size.is_auto);
  EXPECT_TRUE(json.train_micro_batch_size_per_gpu.is_auto);
  EXPECT_THAT(json.notes,
              ElementsAre("zero/testdata/ds_config_zero2.json: steps_per_print 100 is ignored: "
                          "--logging_steps says how often the loss is logged"));
}

TEST(DeepSpeedJsonTest, EveryKeyOfDeepSpeedIsInTheTable) {
  std::ifstream file("zero/testdata/deepspeed_keys.json");
  ASSERT_TRUE(file.is_open());
  const nlohmann::json keys = nlohmann::json::parse(file);
  ASSERT_GT(keys.size(), 200u);
  for (const nlohmann::json& key : keys) {
    const std::string path = key;
    if (FindDeepSpeedKey(path) != nullptr) continue;
    // Or one of the keys within a switch.
    const size_t dot = path.rfind('.');
    const DeepSpeedKey* block = FindDeepSpeedKey(path.substr(0, dot));
    ASSERT_NE(block, nullptr) << path;
    ASSERT_EQ(block->type.kind, DeepSpeedType::Kind::kSwitch) << path;
    const std::vector<std::string> words = absl::StrSplit(block->type.words, ' ');
    EXPECT_THAT(words, testing::Contains(path.substr(dot + 1))) << path;
  }
}

// A value of the key's type, as JSON, that is not among `but`.
std::string SomeValue(const DeepSpeedKey& key) {
  for (const char* text : {"true", "false", "7", "0.5", "\"x\"", "{\"x\": 1}", "\"fp16\"",
                           "\"sum\"", "\"Ignore\"", "\"liger\""}) {
    const std::vector<std::string> neutral = absl::StrSplit(key.neutral, ' ', absl::SkipEmpty());
    const bool is_neutral = std::find(neutral.begin(), neutral.end(), text) != neutral.end();
    const char first = *text;
    const bool fits =
        key.type.kind == DeepSpeedType::Kind::kBool      ? first == 't' || first == 'f'
        : key.type.kind == DeepSpeedType::Kind::kInteger ? first == '7'
        : key.type.kind == DeepSpeedType::Kind::kNumber  ? first == '0'
        : key.type.kind == DeepSpeedType::Kind::kAny     ? first == '{'
        : !key.type.words.empty()
            ? first == '"' &&
                  absl::StrContains(key.type.words, std::string(text + 1, std::strlen(text) - 2))
            : first == '"';
    if (fits && !is_neutral) return text;
  }
  return "";
}

// {"a": {"b": value}} for "a.b".
std::string Nested(std::string_view path, std::string_view value) {
  std::string text(value);
  const std::vector<std::string> names = absl::StrSplit(path, '.');
  for (auto name = names.rbegin(); name != names.rend(); ++name) {
    text = absl::StrCat("{\"", *name, "\": ", text, "}");
  }
  return text;
}

TEST(DeepSpeedJsonTest, EveryRefusedKeyIsRefusedByNameUnlessItAsksForNothing) {
  int num_refused = 0;
  for (const DeepSpeedKey& key : DeepSpeedKeys()) {
    if (key.fate != DeepSpeedKey::Fate::kRefused || absl::StartsWith(key.path, "optimizer.") ||
        absl::StartsWith(key.path, "scheduler.")) {
      continue;
    }
    ++num_refused;
    EXPECT_FALSE(key.reason.empty()) << key.path;
    const bool is_switch = key.type.kind == DeepSpeedType::Kind::kSwitch;
    std::string value = SomeValue(key);
    if (is_switch) {
      value = absl::StrContains(key.type.words, "enabled")
                  ? "{\"enabled\": true}"
                  : "{\"layer_reduction\": {\"enabled\": true}}";
    }
    ASSERT_NE(value, "") << key.path;
    EXPECT_THAT(ErrorOf(Nested(key.path, value)),
                testing::AllOf(
                    StartsWith(absl::StrCat("ds.json: ", key.path)),
                    HasSubstr(absl::StrCat("is not implemented in this version: ", key.reason))));
    Parsed(Nested(key.path, "null"));
    if (is_switch) Parsed(Nested(key.path, "{}"));
    for (const std::string_view neutral : absl::StrSplit(key.neutral, ' ', absl::SkipEmpty())) {
      EXPECT_THAT(Parsed(Nested(key.path, neutral)).notes, IsEmpty()) << key.path << neutral;
    }
  }
  EXPECT_GT(num_refused, 30);
}

TEST(DeepSpeedJsonTest, EveryIgnoredKeyIsSaidOnceUnlessItAsksForNothing) {
  int num_ignored = 0;
  for (const DeepSpeedKey& key : DeepSpeedKeys()) {
    if (key.fate != DeepSpeedKey::Fate::kIgnored || absl::StartsWith(key.path, "optimizer."))
      continue;
    ++num_ignored;
    for (const std::string_view neutral : absl::StrSplit(key.neutral, ' ', absl::SkipEmpty())) {
      EXPECT_THAT(Parsed(Nested(key.path, neutral)).notes, IsEmpty()) << key.path << neutral;
    }
    const std::string value =
        key.type.kind == DeepSpeedType::Kind::kSwitch ? "{\"enabled\": true}" : SomeValue(key);
    if (value.empty()) continue;  // every value asks for nothing
    EXPECT_THAT(
        Parsed(Nested(key.path, value)).notes,
        ElementsAre(testing::AllOf(StartsWith(absl::StrCat("ds.json: ", key.path)),
                                   testing::EndsWith(absl::StrCat(" is ignored: ", key.reason)))));
    EXPECT_FALSE(key.reason.empty()) << key.path;
  }
  EXPECT_GT(num_ignored, 60);
}

TEST(DeepSpeedJsonTest, CommentsAndSpellingsOfIntegers) {
  const DeepSpeedJson json = Parsed(R"(
      // a line
      {"zero_optimization": {"stage": 3.0, /* a block */ "reduce_bucket_size": 2e8,
                             "sub_group_size": 1E+9, "stage3_prefetch_bucket_size": null},
       "train_batch_size": 1.6e1})");
  EXPECT_EQ(json.zero_optimization.stage.value, 3);
  EXPECT_EQ(json.zero_optimization.reduce_bucket_size.value, 200'000'000);
  EXPECT_EQ(json.zero_optimization.sub_group_size.value, 1'000'000'000);
  EXPECT_TRUE(json.zero_optimization.stage3_prefetch_bucket_size.is_absent());
  EXPECT_EQ(json.train_batch_size.value, 16);
}

TEST(DeepSpeedJsonTest, OlderSpellings) {
  DeepSpeedJson json = Parsed(R"({"bfloat16": {"enabled": true},
      "zero_optimization": {"stage": 3, "prefetch_bucket_size": 5, "param_persistence_threshold": 6,
                            "max_live_parameters": 7, "cpu_offload": true, "cpu_offload_param": true}})");
  EXPECT_EQ(json.bf16_enabled.value, true);
  EXPECT_EQ(json.zero_optimization.stage3_prefetch_bucket_size.value, 5);
  EXPECT_EQ(json.zero_optimization.stage3_param_persistence_threshold.value, 6);
  EXPECT_EQ(json.zero_optimization.stage3_max_live_parameters.value, 7);
  EXPECT_EQ(json.zero_optimization.offload_optimizer.device.value, "cpu");
  EXPECT_EQ(json.zero_optimization.offload_param.device.value, "cpu");
  json = Parsed(R"({"zero_optimization": {"stage": 2, "cpu_offload": false}})");
  EXPECT_TRUE(json.zero_optimization.offload_optimizer.device.is_absent());
}

TEST(DeepSpeedJsonTest, Optimizer) {
  const DeepSpeedJson json = Parsed(R"({"optimizer": {"type": "Adam", "params": {
      "lr": 1e-3, "betas": [0.8, 0.999], "eps": 1e-8, "weight_decay": 3e-7, "torch_adam": true,
      "adam_w_mode": true}}})");
  ASSERT_TRUE(json.optimizer.has_value());
  EXPECT_EQ(json.optimizer->lr.value, 1e-3);
  EXPECT_THAT(json.optimizer->betas.value, testing::Optional(Pair(0.8, 0.999)));
  EXPECT_EQ(json.optimizer->weight_decay.value, 3e-7);
  EXPECT_THAT(json.notes, IsEmpty());
  // For AdamW DeepSpeed does not look at adam_w_mode.
  using Rule = DeepSpeedOptimizer::Rule;
  const auto rule_of = [](const char* text) { return Parsed(text).optimizer->rule; };
  EXPECT_EQ(rule_of(R"({"optimizer": {"type": "adamw", "params": {"adam_w_mode": false}}})"),
            Rule::kAdamW);
  EXPECT_EQ(rule_of(R"({"optimizer": {"type": "Adam"}})"), Rule::kAdamW);
  EXPECT_EQ(rule_of(R"({"optimizer": {"type": "Adam", "params": {"adam_w_mode": false}}})"),
            Rule::kAdam);
  EXPECT_EQ(rule_of(R"({"optimizer": {"type": "lion", "params": {"lr": 1e-4}}})"), Rule::kLion);
  Parsed(R"({"optimizer": null, "scheduler": null})");
}

struct Refusal {
  const char* text;
  const char* message;
};

TEST(DeepSpeedJsonTest, WhatIsWrongIsNamedWithItsPath) {
  for (
      const Refusal& refusal : std::vector<Refusal>{
          // Values.
          {R"({"zero_optimization": {"stage": 4}})",
           "zero_optimization.stage is 4; expected 0 to 3"},
          {R"({"zero_optimization": {"stage": -1}})",
           "zero_optimization.stage is -1; expected 0 to 3"},
          {R"({"zero_optimization": {"stage": "2"}})",
           "zero_optimization.stage is \"2\"; expected an integer from 0 to 3"},
          {R"({"zero_optimization": {"stage": true}})",
           "zero_optimization.stage is true; expected an integer from 0 to 3"},
          {R"({"zero_optimization": {"stage": 1.5}})",
           "zero_optimization.stage is 1.5; expected an integer from 0 to 3"},
          {R"({"zero_optimization": {"stage": "auto"}})",
           "zero_optimization.stage is \"auto\"; expected an integer from 0 to 3"},
          {R"({"zero_optimization": true})", "zero_optimization is true; expected an object"},
          {R"({"zero_optimization": {"reduce_bucket_size": "many"}})",
           "zero_optimization.reduce_bucket_size is \"many\"; expected an integer of at least 0 or "
           "\"auto\""},
          {R"({"zero_optimization": {"reduce_bucket_size": 1e300}})",
           "zero_optimization.reduce_bucket_size is 1e+300; expected an integer of at most "
           "9007199254740992 or \"auto\""},
          {R"({"zero_optimization": {"overlap_comm": "true"}})",
           "zero_optimization.overlap_comm is \"true\"; expected true or false or \"auto\""},
          {R"({"train_batch_size": 0})",
           "train_batch_size is 0; expected an integer of at least 1 or \"auto\""},
          {R"({"train_batch_size": [4]})",
           "train_batch_size is [4]; expected an integer of at least 1 or \"auto\""},
          {R"({"gradient_clipping": -1.0})",
           "gradient_clipping is -1.0; expected a number of at least 0 or \"auto\""},
          {R"({"fp16": {"enabled": true, "loss_scale": -1}})",
           "fp16.loss_scale is -1; expected a number of at least 0 or \"auto\""},
          {R"({"fp16": {"enabled": true, "initial_scale_power": 200}})",
           "fp16.initial_scale_power is 200; expected 0 to 126 or \"auto\""},
          {R"({"data_types": {"grad_accum_dtype": "int8"}})",
           "data_types.grad_accum_dtype is \"int8\"; expected one of fp32, bf16, fp16 or \"auto\""},
          {R"({"zero_optimization": {"stage": 3, "offload_param": {"device": "gpu"}}})",
           "zero_optimization.offload_param.device is \"gpu\"; expected one of none, cpu, nvme or "
           "\"auto\""},
          {R"({"wall_clock_breakdown": "auto"})",
           "wall_clock_breakdown is \"auto\"; expected true or false"},
          {R"({"autotuning": {"enabled": 1}})", "autotuning.enabled is 1; expected true or false"},
          // Keys.
          {R"({"zero_optimisation": {"stage": 2}})",
           "unknown key zero_optimisation (did you mean zero_optimization?)"},
          {R"({"zero_optimization": {"stge": 2}, "train_batchsize": 4})",
           "unknown keys zero_optimization.stge (did you mean stage?), train_batchsize (did you "
           "mean "
           "train_batch_size?)"},
          {R"({"stage3_max_live_parameters": 1e9})",
           "unknown key stage3_max_live_parameters (it belongs in zero_optimization)"},
          {R"({"autotuning": {"enabeld": true}})",
           "unknown key autotuning.enabeld (did you mean enabled?)"},
          {R"({"bf16": {"enabled": true}, "bfloat16": {"enabled": true}})",
           "bfloat16 is given twice: it is bf16"},
          {R"({"bf16": {"enabled": true}, "bf16": {"enabled": true}})",
           "key \"bf16\" is given twice in one object"},
          // All problems at once.
          {R"({"zero_optimization": {"stage": 7}, "xyzzy": 1, "sequence_parallel_size": 2})",
           "unknown key xyzzy; zero_optimization.stage is 7; expected 0 to 3; "
           "sequence_parallel_size 2 "
           "is not implemented in this version: there is no Ulysses; --sequence_parallel splits "
           "sequences over tensor ranks"},
          // What does not go together.
          {R"({"fp16": {"enabled": true}, "bf16": {"enabled": true}})",
           "fp16.enabled and bf16.enabled are both true; choose one"},
          {R"({"zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}}})",
           "zero_optimization.offload_param needs zero_optimization.stage 3; it is 2"},
          {R"({"zero_optimization": {"offload_optimizer": {"device": "cpu"}}})",
           "zero_optimization.offload_optimizer needs zero_optimization.stage 1, 2 or 3; it is 0"},
          {R"({"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "nvme"}}})",
           "zero_optimization.offload_optimizer.nvme_path is missing; device \"nvme\" needs a "
           "folder on "
           "the disk"},
          {R"({"zero_optimization": {"stage": 2, "cpu_offload": true, "offload_optimizer": {}}})",
           "zero_optimization.cpu_offload and zero_optimization.offload_optimizer are one thing, "
           "given "
           "twice; keep offload_optimizer"},
          // Optimizers and schedulers.
          {R"({"optimizer": {"params": {"lr": 1}}})",
           "optimizer.type is missing; expected AdamW, Adam or Lion"},
          {R"({"optimizer": {"type": "OneBitAdam", "params": {"lr": 2e-4, "freeze_step": 400}}})",
           "optimizer.type \"OneBitAdam\" is not implemented in this version; use AdamW, Adam or "
           "Lion"},
          {R"({"optimizer": {"type": "Muon", "params": {"momentum": 0.9}}})",
           "optimizer.type \"Muon\" is not implemented: it has two learning rates, muon_lr and "
           "adam_lr; leave the block out and give --optim muon, which has one"},
          {R"({"optimizer": {"type": "SGD", "params": {"momentum": 0.9}}})",
           "optimizer.type \"SGD\" is not implemented; leave the block out and give --optim sgd"},
          {R"({"optimizer": {"type": "Lion", "params": {"eps": 1e-8}}})",
           "optimizer.params.eps is not a parameter of Lion, which has lr, betas, weight_decay"},
          {R"({"optimizer": {"type": "AdamW", "params": {"betas": [0.9]}}})",
           "optimizer.params.betas is [0.9]; expected two numbers from 0 to below 1, or \"auto\""},
          {R"({"optimizer": {"type": "AdamW", "params": {"betas": [0.9, 1]}}})",
           "optimizer.params.betas is [0.9,1]; expected two numbers from 0 to below 1, or "
           "\"auto\""},
          {R"({"optimizer": {"type": "AdamW", "params": {"max_grad_norm": 1.0}}})",
           "optimizer.params.max_grad_norm 1.0 is not implemented in this version: DeepSpeed "
           "refuses it "
           "too; use gradient_clipping"},
          {R"({"scheduler": {"type": ""}})",
           "scheduler.type \"\" is not implemented in this version; use WarmupLR, WarmupDecayLR or "
           "WarmupCosineLR, or no scheduler and --lr_scheduler_type"},
          {R"({"scheduler": {"params": {}}})",
           "scheduler.type is missing; expected WarmupLR, WarmupDecayLR or WarmupCosineLR"},
          {R"({"scheduler": {"type": "OneCycle", "params": {"cycle_max_lr": 1e-3}}})",
           "scheduler.type \"OneCycle\" is not implemented in this version; use WarmupLR, "
           "WarmupDecayLR "
           "or WarmupCosineLR, or no scheduler and --lr_scheduler_type"},
          {R"({"scheduler": {"type": "WarmupLR", "params": {"total_num_steps": "auto"}}})",
           "scheduler.params.total_num_steps is not a parameter of WarmupLR, which has "
           "warmup_min_lr, "
           "warmup_max_lr, warmup_num_steps, warmup_type"},
          {R"({"scheduler": {"type": "WarmupDecayLR", "params": {"warmup_num_steps": 5}}})",
           "scheduler.params.total_num_steps is missing; WarmupDecayLR needs it, as a number or "
           "\"auto\""},
          {R"({"scheduler": {"type": "WarmupLR", "params": {"warmup_type": "cosine"}}})",
           "scheduler.params.warmup_type is \"cosine\"; expected one of log, linear"},
          {R"({"scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": -1}}})",
           "scheduler.params.warmup_num_steps is -1; expected an integer of at least 0 or "
           "\"auto\""}}) {
    EXPECT_EQ(ErrorOf(refusal.text), absl::StrCat("ds.json: ", refusal.message)) << refusal.text;
  }
}

TEST(DeepSpeedJsonTest, WhatIsNoJsonIsNamedWithItsPlace) {
  EXPECT_THAT(ErrorOf("{\n \"stage\": \n}"), StartsWith("ds.json:3:"));
  EXPECT_THAT(ErrorOf(R"({"bf16": {"enabled": true,}})"), StartsWith("ds.json:1:"));
  EXPECT_THAT(ErrorOf("{\"bf16\": {}} /* open"), StartsWith("ds.json:1:"));
  EXPECT_THAT(ErrorOf(""), StartsWith("ds.json:1:1: "));
  EXPECT_EQ(ErrorOf("[]"), "ds.json: expected a JSON object, got []");
  EXPECT_EQ(ErrorOf("\"auto\""), "ds.json: expected a JSON object, got \"auto\"");
  EXPECT_THAT(ErrorOf("{\"a\xff\": 1}"), HasSubstr("UTF-8"));
  EXPECT_THAT(ErrorOf("{\"two\\nlines\": 1}"), HasSubstr("unknown key"));
  EXPECT_THAT(ErrorOf(std::string(100'000, '[') + std::string(100'000, ']')), HasSubstr("nested"));
}

TEST(DeepSpeedJsonTest, AFileThatIsNotThere) {
  const absl::StatusOr<DeepSpeedJson> json = ReadDeepSpeedJson("zero/testdata/no_such.json");
  EXPECT_EQ(json.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(json.status().message(), "zero/testdata/no_such.json: no such file");
  EXPECT_FALSE(ReadDeepSpeedJson("zero/testdata").ok());
}

}  // namespace
}  // namespace lathe
