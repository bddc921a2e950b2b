// Wrong command lines, configuration files, environments and folders.

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/tests/bad_input/refusal.h"
#include "lathe/tests/process/program.h"
#include "lathe/tests/process/tiny_pretraining.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using Environment = std::map<std::string, std::string>;

class BadFlagsTest : public testing::Test {
 protected:
  ProgramEnd Run(const std::vector<std::string>& more, const Environment& environment = {}) const {
    return RunProgram(kPretrain,
                      {.arguments = tiny_.Flags(out_, more), .environment = environment});
  }

  void Expect(const std::vector<std::string>& more, const std::vector<std::string>& words) const {
    ExpectRefusal(Run(more), words, out_);
  }

  const std::string folder_ = NewFolder();
  const TinyPretraining tiny_{folder_};
  const std::string out_ = folder_ + "/out";
};

TEST_F(BadFlagsTest, CommandLine) {
  Expect({"--learning_rat", "1"}, {"--learning_rat", "did you mean --learning_rate"});
  Expect({"--max_steps", "many"}, {"--max_steps", "many"});
  Expect({"--max_steps", "1.5"}, {"--max_steps", "1.5"});
  Expect({"--max_steps", "99999999999"}, {"--max_steps", "99999999999"});
  Expect({"--max_steps"}, {"--max_steps", "needs a value"});
  Expect({"--learning_rate", "fast"}, {"--learning_rate", "fast"});
  Expect({"--learning_rate", "nan"}, {"--learning_rate", "nan"});
  Expect({"--learning_rate", "-1"}, {"--learning_rate", "-1"});
  Expect({"--bf16", "perhaps"}, {"perhaps"});
  Expect({"--per_device_train_batch_size", "0"}, {"--per_device_train_batch_size", "0"});
  Expect({"--adam_beta1", "1"}, {"--adam_beta1", "1"});
  Expect({"--lr_scheduler_type", "linea"}, {"--lr_scheduler_type", "linear"});
  Expect({"--lr_scheduler_kwargs", "{\"a\": "}, {"--lr_scheduler_kwargs"});
  // Deeper than any stack.
  Expect({"--lr_scheduler_kwargs",
          absl::StrCat("{\"a\":", std::string(50'000, '['), std::string(50'000, ']'), "}")},
         {"--lr_scheduler_kwargs", "nested"});
  Expect({"--ddp_backend", "nccl"}, {"--ddp_backend nccl", "--config=cuda"});
  Expect({"--block_size", "1"}, {"--block_size", "1"});
  Expect({"--max_steps", "3", "--max_steps", "4"}, {"--max_steps", "twice"});
  Expect({"--fp16", "--bf16"}, {"--fp16", "--bf16", "exclude"});
  Expect({"--deepspeed", "x.json"}, {"x.json", "no such file"});
  Expect({"--two\nlines", "x"}, {"two"});
  Expect({"--nproc_per_node", "1000000"}, {"--nproc_per_node", "1000000"});
}

TEST_F(BadFlagsTest, FlagsThatDoNotGoTogether) {
  Expect({"--model_name_or_path", folder_, "--config_name", tiny_.model_folder()},
         {"--config_name", "--model_name_or_path"});
  Expect({"--num_train_epochs", "0"}, {"--num_train_epochs"});
  Expect({"--num_train_epochs", "1e30"}, {"--num_train_epochs"});
  Expect({"--save_strategy", "best"}, {"--save_strategy best", "--eval_strategy"});
  Expect({"--eval_strategy", "epoch"}, {"--validation_files"});
  Expect({"--early_stopping_patience", "2"}, {"--early_stopping_patience", "--eval_strategy"});
  Expect({"--metric_for_best_model", "bleu", "--eval_strategy", "epoch", "--validation_files",
          tiny_.validation_file()},
         {"--metric_for_best_model", "bleu", "eval_loss"});
}

// The launcher says it, once, whatever the number of ranks: the model has two heads and one layer.
TEST_F(BadFlagsTest, DegreesThatDoNotFit) {
  Expect({"--tensor_model_parallel_size", "2"},
         {"--tensor_model_parallel_size 2", "processes is 1", "--nproc_per_node"});
  Expect({"--nproc_per_node", "3", "--tensor_model_parallel_size", "2"},
         {"--tensor_model_parallel_size 2", "processes is 3", "start a multiple of 2"});
  Expect({"--nproc_per_node", "4", "--tp", "4"}, {"num_attention_heads, 2", "1, 2"});
  Expect({"--nproc_per_node", "2", "--pp", "2"},
         {"--pipeline_model_parallel_size 2", "num_hidden_layers is 1"});
  Expect({"--pipeline_schedule", "interleaved"},
         {"--pipeline_schedule interleaved", "--pipeline_model_parallel_size"});
  Expect({"--pipeline_schedule", "1f"}, {"--pipeline_schedule", "1f1b"});
  Expect({"--pipeline_model_parallel_layout", "EttL"},
         {"--pipeline_model_parallel_layout EttL", "1 t (num_hidden_layers)"});
  Expect({"--nproc_per_node", "2", "--tp", "0"}, {"--tp", "0"});
}

TEST_F(BadFlagsTest, Optimizers) {
  Expect({"--optim", "galore_adamw"}, {"--optim", "galore_adamw", "not implemented"});
  Expect({"--optim", "sgd", "--optim_args", "momentun=0.9"},
         {"--optim_args", "momentun", "momentum, dampening, nesterov"});
  Expect({"--optim_args", "momentum=0.9"}, {"--optim_args", "adamw_torch_fused", "state_dtype"});
  for (const char* optim : {"muon", "adafactor", "adamw_8bit", "lion_8bit"}) {
    Expect({"--optim", optim, "--nproc_per_node", "2", "--tp", "2"},
           {absl::StrCat("--optim ", optim), "--tensor_model_parallel_size 2", "whole tensors"});
  }
  const std::string file = folder_ + "/disk.json";
  std::ofstream(file) << R"({"zero_optimization": {"stage": 2, "offload_optimizer": {
      "device": "nvme", "nvme_path": ")"
                      << folder_ << R"("}}})";
  Expect({"--optim", "muon", "--deepspeed", file},
         {"--optim muon", file, "offload_optimizer.device \"nvme\""});
}

TEST_F(BadFlagsTest, MissingInputs) {
  const auto run = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"--output_dir", out_});
    return RunProgram(kPretrain, {.arguments = flags});
  };
  ExpectRefusal(run({}), {"--config_name", "--model_name_or_path"}, out_);
  ExpectRefusal(run({"--config_name", tiny_.model_folder()}), {"--train_files"}, out_);
  ExpectRefusal(run({"--config_name", folder_ + "/nowhere", "--train_files", tiny_.train_file()}),
                {folder_ + "/nowhere"}, out_);
}

TEST_F(BadFlagsTest, ConfigurationFile) {
  const std::string file = folder_ + "/run.json";
  Expect({"--config", file}, {file});
  for (const std::string& text : {std::string("{\"training\": {\"learning_rat\": 1}}"),
                                  std::string("{\"training\": {\"max_steps\": \"x\"}}"),
                                  std::string("{\"training\": "), std::string(3'000'000, '[')}) {
    SCOPED_TRACE(text.substr(0, 50));
    WriteFile(file, text);
    Expect({"--config", file}, {file});
  }
}

TEST_F(BadFlagsTest, LaunchEnvironment) {
  const auto expect = [&](const Environment& environment, const std::vector<std::string>& words) {
    ExpectRefusal(Run({}, environment), words, out_);
  };
  expect({{"RANK", "x"}, {"WORLD_SIZE", "2"}}, {"RANK", "x"});
  expect({{"RANK", "2"}, {"WORLD_SIZE", "2"}}, {"RANK", "2"});
  expect({{"RANK", "0"}, {"WORLD_SIZE", "0"}}, {"WORLD_SIZE", "0"});
  expect({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "99999"}}, {"MASTER_PORT", "99999"});
  expect({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"LOCAL_WORLD_SIZE", "1"}}, {"MASTER_ADDR"});
}

// A rank whose peers never come, under another launcher: --ddp_timeout ends it.
TEST_F(BadFlagsTest, NobodyAtTheRendezvous) {
  for (const char* rank : {"0", "1"}) {
    SCOPED_TRACE(rank);
    ExpectRefusal(
        Run({"--ddp_timeout", "2"},
            {{"RANK", rank},
             {"WORLD_SIZE", "2"},
             {"MASTER_ADDR", "127.0.0.1"},
             {"MASTER_PORT", rank == std::string("0") ? "29871" : "29872"}}),
        {rank == std::string("0")
             ? "rank 0"
             : "127.0.0.1:29872 (--master_addr, --master_port; MASTER_ADDR, MASTER_PORT)"},
        out_);
  }
}

TEST_F(BadFlagsTest, OutputFolderThatCannotBe) {
  const std::string file = folder_ + "/file";
  WriteFile(file, "something");
  ExpectRefusal(Run({"--output_dir", file}), {file}, "");
  ExpectRefusal(Run({"--output_dir", file + "/below"}), {file}, "");
  EXPECT_EQ(ReadFile(file), "something");
  // Where nobody may write, root included.
  ExpectRefusal(Run({"--output_dir", "/proc/lathe"}), {"/proc/lathe"}, "");
  ExpectRefusal(Run({"--output_dir", "/proc/lathe", "--nproc_per_node", "2"}), {"/proc/lathe"}, "",
                2);
  ExpectRefusal(Run({"--output_dir", absl::StrCat(folder_, "/", std::string(300, 'x'))}),
                {"File name too long"}, "");
  ExpectRefusal(Run({"--output_dir", ""}), {"--output_dir"}, "");
}

TEST_F(BadFlagsTest, LoggingFolderThatCannotBe) {
  ExpectRefusal(Run({"--report_to", "tensorboard", "--logging_dir", "/proc/lathe"}),
                {"/proc/lathe"}, out_);
}

TEST_F(BadFlagsTest, HelpIsNoError) {
  for (const std::vector<std::string>& flags : {std::vector<std::string>{"--help"},
                                                {"-h"},
                                                {"--explain", "learning_rate"},
                                                {"--help", "--nproc_per_node=2"}}) {
    const ProgramEnd end = RunProgram(kPretrain, {.arguments = flags});
    EXPECT_EQ(end.exit_code, 0) << end.Text();
    EXPECT_GT(end.out.size(), 100u) << end.Text();
    EXPECT_EQ(end.err, "");
  }
}

}  // namespace
}  // namespace lathe
