#include "lathe/launchers/deepspeed_settings.h"

#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lathe/base/config/flags.h"
#include "lathe/base/config/json.h"
#include "lathe/base/config/schema.h"
#include "lathe/launchers/run_config.pb.h"
#include "lathe/trainer/lr_schedule.h"
#include "lathe/zero/deepspeed_json.h"
#include "lathe/zero/zero_settings.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr int64_t kHiddenSize = 1024;
constexpr int64_t kMaxSteps = 100;

RunConfig Config(const std::vector<std::string>& flags) {
  std::vector<const char*> argv = {"pretrain"};
  for (const std::string& flag : flags) argv.push_back(flag.c_str());
  RunConfig config;
  const auto parsed = ParseFlags(static_cast<int>(argv.size()), argv.data(),
                                 {.width = 80, .colour = false}, &config);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return config;
}

std::string DeviceName(const OffloadSettings& offload) {
  return offload.device == OffloadDevice::kCpu    ? "cpu"
         : offload.device == OffloadDevice::kNvme ? "nvme"
                                                  : "none";
}

using Values = std::map<std::string, std::string>;

Values Described(const DeepSpeedSettings& settings,
                 const std::optional<LrScheduleOptions>& schedule) {
  const TrainingArguments& a = settings.config.training();
  const ZeroSettings& zero = settings.zero;
  const LossScaleSettings& scale = settings.loss_scale;
  const auto text = [](const auto& value) { return absl::StrCat(value); };
  Values values = {
      {"micro", text(a.per_device_train_batch_size())},
      {"accumulation", text(a.gradient_accumulation_steps())},
      {"clip", text(a.max_grad_norm())},
      {"lr", text(a.learning_rate())},
      {"betas", absl::StrCat(a.adam_beta1(), " ", a.adam_beta2())},
      {"eps", text(a.adam_epsilon())},
      {"optim", a.optim()},
      {"weight_decay", text(a.weight_decay())},
      {"all_decay", settings.all_parameters_decay ? "yes" : "no"},
      {"precision", a.bf16()   ? "bf16"
                    : a.fp16() ? "fp16"
                               : "fp32"},
      {"loss_scale", text(scale.loss_scale)},
      {"dynamic", absl::StrCat(scale.initial_scale_power, " ", scale.loss_scale_window, " ",
                               scale.hysteresis, " ", scale.min_loss_scale, " ",
                               scale.consecutive_hysteresis ? "refill" : "keep")},
      {"stage", text(zero.stage)},
      {"reduce", text(zero.reduce_bucket_size)},
      {"allgather", text(zero.allgather_bucket_size)},
      {"overlap", zero.overlap_comm ? "yes" : "no"},
      {"contiguous", zero.contiguous_gradients ? "yes" : "no"},
      {"sub_group", text(zero.sub_group_size)},
      {"prefetch", text(zero.prefetch_bucket_size)},
      {"persistence", text(zero.param_persistence_threshold)},
      {"live", text(zero.max_live_parameters)},
      {"optimizer",
       absl::StrCat(DeviceName(zero.offload_optimizer), " ", zero.offload_optimizer.nvme_path, " ",
                    zero.offload_optimizer.pin_memory ? "pinned" : "pageable", " ",
                    zero.offload_optimizer.buffer_count)},
      {"param", absl::StrCat(DeviceName(zero.offload_param), " ", zero.offload_param.nvme_path, " ",
                             zero.offload_param.pin_memory ? "pinned" : "pageable", " ",
                             zero.offload_param.buffer_count, " x ", zero.offload_param.buffer_size,
                             ", ", zero.offload_param.max_in_cpu)},
      {"disk", absl::StrCat(zero.disk.block_size_bytes, " x ", zero.disk.queue_depth)},
      {"loss_scaling", scale.enabled ? "on" : "off"},
      {"schedule", "flags"}};
  if (schedule) {
    values["schedule"] = absl::StrCat(schedule->type, " ", schedule->num_warmup_steps, "/",
                                      schedule->num_training_steps, " ", schedule->kwargs);
  }
  return values;
}

struct Outcome {
  Values values;
  std::string error;
  std::vector<std::string> messages;
  RunConfig config;
};

// The whole way, as a run goes it: file, flags, then the training plan's steps.
Outcome OutcomeOf(const absl::StatusOr<DeepSpeedJson>& json, const RunConfig& flags, int ranks) {
  Outcome outcome;
  if (!json.ok()) {
    outcome.error = std::string(json.status().message());
    return outcome;
  }
  const absl::StatusOr<DeepSpeedSettings> settings =
      ApplyDeepSpeed(*json, flags, {.data_parallel_size = ranks, .hidden_size = kHiddenSize});
  if (!settings.ok()) {
    outcome.error = std::string(settings.status().message());
    return outcome;
  }
  outcome.messages = settings->messages;
  outcome.config = settings->config;
  const TrainingArguments& a = settings->config.training();
  const absl::StatusOr<std::optional<LrScheduleOptions>> schedule =
      DeepSpeedSchedule(*json, settings->config, kMaxSteps,
                        NumWarmupSteps(a.warmup_steps(), a.warmup_ratio(), kMaxSteps));
  if (!schedule.ok()) {
    outcome.error = std::string(schedule.status().message());
    return outcome;
  }
  if (*schedule) {
    EXPECT_TRUE(LrSchedule::Create(**schedule).ok()) << (*schedule)->kwargs;
  }
  outcome.values = Described(*settings, *schedule);
  return outcome;
}

Outcome OutcomeOf(const std::string& json, const std::vector<std::string>& flags, int ranks = 2) {
  return OutcomeOf(ParseDeepSpeedJson(json, "ds.json"), Config(flags), ranks);
}

nlohmann::ordered_json Cases() {
  std::ifstream file("launchers/testdata/deepspeed_cases.json");
  EXPECT_TRUE(file.is_open());
  return nlohmann::ordered_json::parse(file);
}

// What goes through and what does not, from Hugging Face's documentation, DeepSpeed's tutorials and
// by hand: the values that hold (some of Described's) or the whole error.
TEST(DeepSpeedSettingsTest, Cases) {
  const nlohmann::ordered_json cases = Cases();
  ASSERT_GE(cases.size(), 40u);
  for (const nlohmann::ordered_json& c : cases) {
    SCOPED_TRACE(c["name"].get<std::string>());
    const std::vector<std::string> flags = c["flags"];
    const Outcome outcome = OutcomeOf(c["config"].dump(), flags, c.value("data_parallel_size", 2));
    EXPECT_EQ(outcome.error, c.value("error", ""));
    EXPECT_THAT(outcome.error, Not(HasSubstr("\n")));
    if (!c.contains("expected")) continue;
    for (const auto& [name, value] : c["expected"].items()) {
      const auto found = outcome.values.find(name);
      EXPECT_EQ(found == outcome.values.end() ? "(nothing)" : found->second, value) << name;
    }
  }
}

// What goes through as it is, from the seed, Hugging Face's documentation and DeepSpeed's
// tutorials.

TEST(DeepSpeedSettingsTest, TheSeedsFileAndFlags) {
  const RunConfig flags =
      Config({"--per_device_train_batch_size", "16", "--gradient_accumulation_steps", "4",
              "--learning_rate", "1e-4", "--num_train_epochs", "1", "--warmup_steps", "20",
              "--bf16", "--gradient_checkpointing"});
  const Outcome outcome =
      OutcomeOf(ReadDeepSpeedJson("zero/testdata/ds_config_zero2.json"), flags, /*ranks=*/2);
  EXPECT_EQ(outcome.error, "");
  const Values expected = {
      {"micro", "16"},
      {"accumulation", "4"},
      {"clip", "1"},
      {"lr", "0.0001"},
      {"betas", "0.9 0.999"},
      {"eps", "1e-08"},
      {"weight_decay", "0"},
      {"all_decay", "yes"},
      {"precision", "bf16"},
      {"loss_scaling", "off"},
      {"stage", "2"},
      {"reduce", "200000000"},
      {"allgather", "200000000"},
      {"overlap", "yes"},
      {"contiguous", "yes"},
      {"optimizer", "none  pinned 4"},
      {"schedule",
       "WarmupLR 20/100 "
       "{\"warmup_type\":\"log\",\"warmup_min_lr\":0.0,\"warmup_max_lr\":0.0001}"}};
  for (const auto& [name, value] : expected) EXPECT_EQ(outcome.values.at(name), value) << name;
  const std::string file = "zero/testdata/ds_config_zero2.json: ";
  EXPECT_THAT(
      outcome.messages,
      ElementsAre(
          file + "steps_per_print 100 is ignored: --logging_steps says how often the loss is "
                 "logged",
          file + "its optimizer block applies weight decay 0.0 to all parameters: the no-decay "
                 "groups of biases and norms are dropped, as under Hugging Face's Trainer",
          file + "its scheduler WarmupLR replaces --lr_scheduler_type linear: after the warmup "
                 "the rate stays at its peak"));
}

TEST(DeepSpeedSettingsTest, WhatTheFileLeavesOutIsTheFlagsOrDeepSpeedsDefaultAndSaid) {
  Outcome outcome = OutcomeOf(R"({"optimizer": {"type": "AdamW"}})", {});
  EXPECT_EQ(outcome.values["lr"], "0.001");
  EXPECT_THAT(outcome.messages,
              Contains("ds.json: without optimizer.params.lr DeepSpeed's default 0.001 "
                       "holds, not --learning_rate's"));
  outcome = OutcomeOf(R"({"optimizer": {"type": "AdamW"}})", {"--learning_rate", "1e-4"});
  EXPECT_EQ(outcome.values["lr"], "0.0001");
  EXPECT_THAT(outcome.messages,
              Contains("ds.json: without optimizer.params.lr --learning_rate 0.0001 "
                       "holds, where DeepSpeed would take 0.001"));
  outcome = OutcomeOf(R"({"scheduler": {"type": "WarmupLR"}})", {});
  EXPECT_EQ(
      outcome.values["schedule"],
      "WarmupLR 1000/100 {\"warmup_type\":\"log\",\"warmup_min_lr\":0.0,\"warmup_max_lr\":5e-05}");
  outcome = OutcomeOf(
      R"({"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": "auto"}}})",
      {"--warmup_steps", "3"});
  EXPECT_EQ(outcome.values["schedule"],
            "WarmupDecayLR 3/100 "
            "{\"warmup_type\":\"log\",\"warmup_min_lr\":0.0,\"warmup_max_lr\":0.001}");
  // Rates of a schedule win over the optimizer's, which is said.
  outcome = OutcomeOf(R"({"optimizer": {"type": "AdamW", "params": {"lr": 1e-4}},
                    "scheduler": {"type": "WarmupLR", "params": {"warmup_max_lr": 3e-4}}})",
                      {});
  EXPECT_EQ(outcome.values["lr"], "0.0003");
  EXPECT_THAT(
      outcome.messages,
      Contains("ds.json: optimizer.params.lr 0.0001 has no effect: WarmupLR sets the rate"));
  // Without blocks the flags hold, and nothing is said.
  outcome = OutcomeOf(R"({"zero_optimization": {"stage": 2}})",
                      {"--learning_rate", "1e-4", "--max_steps", "9"});
  EXPECT_EQ(outcome.values["lr"], "0.0001");
  EXPECT_THAT(outcome.messages, IsEmpty());
}

// A run's own configuration, as its checkpoint keeps it, together with the same file.
TEST(DeepSpeedSettingsTest, WhatHoldsAppliedAgainHolds) {
  const absl::StatusOr<ConfigSchema> schema = ConfigSchema::Create(RunConfig::descriptor());
  ASSERT_TRUE(schema.ok());
  int num_applied = 0;
  for (const nlohmann::ordered_json& c : Cases()) {
    const std::vector<std::string> flags = c["flags"];
    const int ranks = c.value("data_parallel_size", 2);
    const std::string json = c["config"].dump();
    const Outcome first = OutcomeOf(json, flags, ranks);
    if (first.error != "") continue;
    SCOPED_TRACE(c["name"].get<std::string>());
    RunConfig copy;
    ASSERT_TRUE(MergeJson(*schema, ToJson(*schema, first.config), "copy", &copy).ok());
    const Outcome second = OutcomeOf(ParseDeepSpeedJson(json, "ds.json"), copy, ranks);
    EXPECT_EQ(second.error, "");
    EXPECT_EQ(second.values, first.values);
    ++num_applied;
  }
  EXPECT_GT(num_applied, 20);
}

}  // namespace
}  // namespace lathe
