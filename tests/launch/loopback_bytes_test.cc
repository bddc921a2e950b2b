// What each ZeRO stage sends, by the kernel's count of bytes on the loopback device of a network
// namespace with nothing else in it: whole runs of the program, of several lengths, so that what
// the start and the end send falls out.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "lathe/tests/launch/two_hosts.h"
#include "lathe/tests/process/program.h"
#include "lathe/tests/process/tiny_pretraining.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

constexpr int kBytesPerElement = 4;

// Bytes that the loopback device of this process's namespace has received so far.
int64_t LoopbackBytes() {
  std::ifstream stream("/proc/self/net/dev");
  for (std::string line; std::getline(stream, line);) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    int64_t bytes = 0;
    if (words.size() > 1 && words[0] == "lo:" && absl::SimpleAtoi(words[1], &bytes)) return bytes;
  }
  ADD_FAILURE() << "no lo in /proc/self/net/dev";
  return 0;
}

class LoopbackBytesTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    possible_ = EnterOwnNamespaces();
    if (possible_.ok() &&
        RunProgram("/bin/sh", {.arguments = {"-c", "ip link set lo up"}}).exit_code != 0) {
      possible_ = absl::UnavailableError("ip link set lo up");
    }
  }

  void SetUp() override {
    if (!possible_.ok()) GTEST_SKIP() << "no network namespaces here: " << possible_;
    // 20.8 M elements: 83 MB, where every rank sends each once.
    nlohmann::json config = TinyModelConfig(/*num_layers=*/4);
    config["hidden_size"] = 512;
    config["intermediate_size"] = 1536;
    config["num_attention_heads"] = 8;
    config["num_key_value_heads"] = 4;
    config["head_dim"] = 64;
    config["vocab_size"] = 16000;
    config["tie_word_embeddings"] = true;
    WriteFile(tiny_.model_folder() + "/config.json", config.dump());
  }

  // Of a run of so many updates.
  int64_t BytesOf(int num_updates, const std::vector<std::string>& flags) {
    const std::string out = absl::StrCat(folder_, "/out", num_runs_++);
    std::vector<std::string> all = {
        "--max_steps", absl::StrCat(num_updates),       "--save_strategy",
        "no",          "--per_device_train_batch_size", "1"};
    all.insert(all.end(), flags.begin(), flags.end());
    const int64_t before = LoopbackBytes();
    const ProgramEnd end = RunProgram(kPretrain, {.arguments = tiny_.Flags(out, all)});
    const int64_t bytes = LoopbackBytes() - before;
    EXPECT_EQ(end.exit_code, 0) << end.Text();
    num_elements_ = std::filesystem::file_size(out + "/model.safetensors") / kBytesPerElement;
    std::filesystem::remove_all(out);
    return bytes;
  }

  // Sent by a rank in an update, in (N−1)/N of the model's elements.
  double Multiple(int num_ranks, int stage, int num_micro_batches,
                  std::vector<std::string> flags = {}) {
    const std::string json = absl::StrCat(folder_, "/stage", stage, ".json");
    WriteFile(json,
              absl::StrCat(R"({"zero_optimization": {"stage": )", stage,
                           R"(, "reduce_bucket_size": 4e6, "stage3_prefetch_bucket_size": 4e6)",
                           R"(, "stage3_param_persistence_threshold": 0}})"));
    flags.insert(flags.end(), {"--deepspeed", json, "--nproc_per_node", absl::StrCat(num_ranks),
                               "--gradient_accumulation_steps", absl::StrCat(num_micro_batches)});
    const double bytes = static_cast<double>(BytesOf(3, flags) - BytesOf(1, flags)) / 2 / num_ranks;
    const double unit =
        static_cast<double>(num_elements_) * kBytesPerElement * (num_ranks - 1) / num_ranks;
    std::printf("%d ranks, stage %d: %.1f MB of an update, %.3f x P(N-1)/N elements\n", num_ranks,
                stage, bytes / 1e6, bytes / unit);
    EXPECT_GT(bytes, 64 << 20);
    return bytes / unit;
  }

  static absl::Status possible_;
  const std::string folder_ = NewFolder();
  const TinyPretraining tiny_{folder_};
  int num_runs_ = 0;
  int64_t num_elements_ = 0;
};

absl::Status LoopbackBytesTest::possible_;

// Of a tied model. An untied one sends less at stage 3: its table and its head are gathered once,
// as neither's backward reads weights.
TEST_F(LoopbackBytesTest, OneMicroBatch) {
  for (const int num_ranks : {2, 4}) {
    for (const int stage : {0, 1, 2}) {
      EXPECT_NEAR(Multiple(num_ranks, stage, 1), 2, 0.05 * 2);
    }
    EXPECT_NEAR(Multiple(num_ranks, 3, 1), 3, 0.05 * 3);
  }
}

TEST_F(LoopbackBytesTest, FourMicroBatches) {
  EXPECT_NEAR(Multiple(2, 2, 4), 4 + 1, 0.05 * 5);
  EXPECT_NEAR(Multiple(2, 3, 4), 4 + 1, 0.05 * 5);
  EXPECT_NEAR(Multiple(2, 3, 4, {"--reshard_after_forward", "never"}), 4 + 1, 0.05 * 5);
  EXPECT_NEAR(Multiple(2, 3, 4, {"--reshard_after_forward", "always"}), 3 * 4, 0.05 * 12);
}

}  // namespace
}  // namespace lathe
