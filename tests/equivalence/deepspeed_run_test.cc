// --deepspeed through the real program: the chapter's script with its own JSON, two ranks; every
// stage the same bits; what one stage and number of ranks saved goes on under others.

#include <algorithm>
#include <cmath>
#include <filesystem>
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

constexpr char kSeedJson[] = "zero/testdata/ds_config_zero2.json";

class DeepSpeedRunTest : public testing::Test {
 protected:
  // The chapter's pretrain.sh, but for the model, the data and the sizes.
  std::vector<std::string> Script(const std::string& output_dir, const std::string& json,
                                  const std::vector<std::string>& more) const {
    std::vector<std::string> flags = {"--config_name",
                                      tiny_.model_folder(),
                                      "--tokenizer_name",
                                      tiny_.model_folder(),
                                      "--train_files",
                                      tiny_.train_file(),
                                      "--do_train",
                                      "--output_dir",
                                      output_dir,
                                      "--evaluation_strategy",
                                      "no",
                                      "--learning_rate",
                                      "1e-3",
                                      "--warmup_steps",
                                      "5",
                                      "--logging_dir",
                                      output_dir + "/logs",
                                      "--logging_strategy",
                                      "steps",
                                      "--logging_steps",
                                      "1",
                                      "--save_strategy",
                                      "steps",
                                      "--save_steps",
                                      "4",
                                      "--preprocessing_num_workers",
                                      "10",
                                      "--seed",
                                      "12",
                                      "--block_size",
                                      "32",
                                      "--gradient_checkpointing",
                                      "--deepspeed",
                                      json,
                                      "--report_to",
                                      "swanlab"};
    flags.insert(flags.end(), more.begin(), more.end());
    return flags;
  }

  std::string JsonOfStage(int stage) const {
    const std::string path = absl::StrCat(folder_, "/stage", stage, ".json");
    WriteFile(path, absl::StrReplaceAll(ReadFile(kSeedJson),
                                        {{"\"stage\": 2", absl::StrCat("\"stage\": ", stage)}}));
    return path;
  }

  // The updates that were logged.
  nlohmann::json Run(const std::string& output_dir, const std::string& json,
                     const std::vector<std::string>& more, ProgramEnd* end) const {
    *end = RunProgram(kPretrain, {.arguments = Script(output_dir, json, more)});
    EXPECT_EQ(end->exit_code, 0) << end->Text();
    return History(output_dir);
  }

  static nlohmann::json History(const std::string& output_dir) {
    nlohmann::json updates = nlohmann::json::array();
    const nlohmann::json state =
        nlohmann::json::parse(ReadFile(output_dir + "/trainer_state.json"));
    for (const nlohmann::json& entry : state["log_history"]) {
      if (entry.contains("loss")) updates.push_back(entry);
    }
    return updates;
  }

  const std::string folder_ = NewFolder();
  const TinyPretraining tiny_{folder_, /*num_layers=*/2};
};

TEST_F(DeepSpeedRunTest, TheChaptersScript) {
  ProgramEnd end;
  const nlohmann::json history =
      Run(folder_ + "/out", kSeedJson,
          {"--bf16", "--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "4",
           "--num_train_epochs", "2", "--save_total_limit", "1", "--nproc_per_node", "2"},
          &end);
  EXPECT_TRUE(end.Says("WarmupLR")) << end.Text();
  EXPECT_TRUE(end.Says("decay")) << end.Text();
  // DeepSpeed's WarmupLR: logarithmic, one update late, and then as it is.
  ASSERT_EQ(history.size(), 8u);
  for (int update = 0; update + 1 < static_cast<int>(history.size()); ++update) {
    const double expected = update == 0 ? 0 : 1e-3 * std::min(1.0, std::log(update) / std::log(5));
    EXPECT_NEAR(history[update]["learning_rate"].get<double>(), expected, 1e-12) << update;
  }
}

TEST_F(DeepSpeedRunTest, Fp16SkipsOverflowsOnAllRanks) {
  // Scales that no gradient bears: each halves at once.
  const std::string json = folder_ + "/fp16.json";
  WriteFile(json,
            absl::StrReplaceAll(ReadFile(kSeedJson),
                                {{"\"initial_scale_power\": 16", "\"initial_scale_power\": 32"},
                                 {"\"hysteresis\": 2", "\"hysteresis\": 1"}}));
  const std::vector<std::string> flags = {
      "--fp16", "--max_steps", "24", "--nproc_per_node", "2", "--per_device_train_batch_size", "2"};
  ProgramEnd end;
  const std::string out = folder_ + "/fp16";
  const nlohmann::json history = Run(out, json, flags, &end);
  ASSERT_EQ(history.size(), 24u);
  const nlohmann::json results = nlohmann::json::parse(ReadFile(out + "/train_results.json"));
  const int overflows = results["nonfinite_steps"];
  EXPECT_GT(overflows, 4) << "some of them before the first checkpoint, and some after";
  EXPECT_EQ(end.Count("OVERFLOW! The update was skipped"), overflows) << "said once";
  // The schedule has not counted those before its third update, the first with a rate; the rest has
  // trained.
  int first = 0;
  while (history[first]["learning_rate"].get<double>() == 0) ++first;
  EXPECT_GE(first, 4 + 2);
  EXPECT_NEAR(history[first]["learning_rate"].get<double>(), 1e-3 * std::log(2) / std::log(5),
              1e-12);
  EXPECT_LT(history[23]["loss"].get<double>(), history[0]["loss"].get<double>());

  std::vector<std::string> more = flags;
  more.insert(more.end(), {"--resume_from_checkpoint", out + "/checkpoint-4"});
  Run(folder_ + "/resumed", json, more, &end);
  EXPECT_EQ(ReadFile(folder_ + "/resumed/model.safetensors"), ReadFile(out + "/model.safetensors"));
}

TEST_F(DeepSpeedRunTest, EveryStageTheSameBitsAndOneCheckpoint) {
  std::vector<std::string> models;
  for (const int stage : {0, 1, 2, 3}) {
    const std::string out = absl::StrCat(folder_, "/out", stage);
    ProgramEnd end;
    Run(out, JsonOfStage(stage),
        {"--max_steps", "8", "--nproc_per_node", "2", "--per_device_train_batch_size", "2"}, &end);
    models.push_back(ReadFile(out + "/model.safetensors") +
                     ReadFile(out + "/checkpoint-8/optimizer.safetensors"));
  }
  EXPECT_EQ(models[1], models[0]);
  EXPECT_EQ(models[2], models[0]);
  EXPECT_EQ(models[3], models[0]);

  // From two ranks under stage 2 to four under stage 3, with the same samples in an update.
  ProgramEnd end;
  const std::string out = folder_ + "/out_of_four";
  const nlohmann::json two = History(folder_ + "/out2");
  const nlohmann::json four =
      Run(out, JsonOfStage(3),
          {"--max_steps", "8", "--nproc_per_node", "4", "--per_device_train_batch_size", "1",
           "--resume_from_checkpoint", folder_ + "/out2/checkpoint-4"},
          &end);
  for (int update = 4; update < 8; ++update) {
    const double loss = two[update]["loss"], resumed = four[update]["loss"];
    EXPECT_NEAR(resumed, loss, 2e-5 * loss) << update;
  }
}

TEST_F(DeepSpeedRunTest, OffloadedTheSameBitsAndOneCheckpoint) {
  const std::string disk = folder_ + "/disk";
  std::filesystem::create_directories(disk);
  const std::string nvme = absl::StrCat(R"({"device": "nvme", "nvme_path": ")", disk, R"("})");
  const auto train = [&](const std::string& name, const std::string& zero, int ranks,
                         std::vector<std::string> more = {}) {
    const std::string json = absl::StrCat(folder_, "/", name, ".json");
    WriteFile(json, absl::StrCat(R"({"bf16": {"enabled": "auto"}, "zero_optimization": {)", zero,
                                 R"(}, "train_micro_batch_size_per_gpu": "auto"})"));
    const std::string out = absl::StrCat(folder_, "/", name);
    more.insert(more.end(), {"--bf16", "--max_steps", "6", "--nproc_per_node", absl::StrCat(ranks),
                             "--per_device_train_batch_size", "2"});
    ProgramEnd end;
    Run(out, json, more, &end);
    return ReadFile(out + "/model.safetensors") +
           ReadFile(out + "/checkpoint-6/optimizer.safetensors");
  };
  for (const int ranks : {1, 2}) {
    SCOPED_TRACE(absl::StrCat(ranks, " ranks"));
    const auto name = [&](const char* what) { return absl::StrCat(what, ranks); };
    const std::string bits = train(name("memory"), R"("stage": 3)", ranks);
    EXPECT_EQ(train(name("host"),
                    R"("stage": 3, "offload_optimizer": {"device": "cpu"},
                       "offload_param": {"device": "cpu"})",
                    ranks),
              bits);
    EXPECT_EQ(
        train(name("states"),
              absl::StrCat(R"("stage": 2, "sub_group_size": 5000, "offload_optimizer": )", nvme),
              ranks),
        bits);
    EXPECT_EQ(
        train(name("all"),
              absl::StrCat(R"("stage": 3, "offload_optimizer": )", nvme, R"(, "offload_param": )",
                           absl::StrReplaceAll(nvme, {{"}", ", \"max_in_cpu\": 0}"}})),
              ranks),
        bits);
    // What was saved from memory goes on from a disk.
    EXPECT_EQ(
        train(name("resumed"), absl::StrCat(R"("stage": 1, "offload_optimizer": )", nvme), ranks,
              {"--resume_from_checkpoint",
               absl::StrCat(folder_, "/", name("memory"), "/checkpoint-4")}),
        bits);
  }
  EXPECT_TRUE(std::filesystem::is_empty(disk));
}

TEST_F(DeepSpeedRunTest, OffloadThatCannotBeIsRefused) {
  const std::string json = folder_ + "/offload.json";
  const auto refused = [&](const std::string& path, const std::vector<std::string>& more) {
    WriteFile(json, absl::StrCat(R"({"zero_optimization": {"stage": 1, "offload_optimizer":
        {"device": "nvme", "nvme_path": ")",
                                 path, R"("}}})"));
    const ProgramEnd end =
        RunProgram(kPretrain, {.arguments = Script(folder_ + "/out", json, more)});
    EXPECT_EQ(end.exit_code, 2);
    return end.Text();
  };
  EXPECT_THAT(refused(folder_ + "/absent", {}),
              testing::HasSubstr("nvme_path " + folder_ +
                                 "/absent: cannot make a file there: No "
                                 "such file or directory; give an"));
  EXPECT_THAT(refused(folder_, {"--async_save"}),
              testing::HasSubstr("--async_save copies all states into memory"));
}

}  // namespace
}  // namespace lathe
