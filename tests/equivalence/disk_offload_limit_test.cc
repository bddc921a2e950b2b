// A model that does not fit: under a memory limit (a cgroup) of a quarter of its states' bytes it
// trains with states and weights on the disk, to the bits of the run in memory. By name only: it
// takes 7 GB of memory, 7 GB of disk, the right to make a cgroup, and some minutes.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/tests/process/program.h"
#include "lathe/tests/process/tiny_pretraining.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kHidden = 1024, kIntermediate = 4096, kLayers = 22, kVocabulary = 49152;
// Four square projections, three of the MLP and two norms a layer; a tied table and a norm.
constexpr int64_t kParameters =
    kLayers * (4 * kHidden * kHidden + 3 * kHidden * kIntermediate + 2 * kHidden) +
    kVocabulary * kHidden + kHidden;
static_assert(kParameters > 400'000'000);

bool WriteTo(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  file.close();
  return file.good();
}

// FNV-1a of a file, a piece at a time: its bytes would be within the limit.
uint64_t HashOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> piece(1 << 20);
  uint64_t hash = 0xcbf29ce484222325;
  do {
    file.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    for (std::streamsize i = 0; i < file.gcount(); ++i) {
      hash = (hash ^ static_cast<unsigned char>(piece[i])) * 0x100000001b3;
    }
  } while (file);
  return hash;
}

// This process, and what it starts, in a cgroup of so many bytes while the object lives.
class MemoryLimit {
 public:
  explicit MemoryLimit(int64_t bytes) {
    const bool has_v1 = fs::exists("/sys/fs/cgroup/memory/cgroup.procs");
    root_ = has_v1 ? "/sys/fs/cgroup/memory" : "/sys/fs/cgroup";
    folder_ = absl::StrCat(root_, "/lathe-", getpid());
    const char* const limit = has_v1 ? "/memory.limit_in_bytes" : "/memory.max";
    holds_ = mkdir(folder_.c_str(), 0755) == 0 && WriteTo(folder_ + limit, absl::StrCat(bytes)) &&
             WriteTo(folder_ + "/cgroup.procs", absl::StrCat(getpid()));
  }
  ~MemoryLimit() {
    WriteTo(root_ + "/cgroup.procs", absl::StrCat(getpid()));
    rmdir(folder_.c_str());
  }
  bool holds() const { return holds_; }

 private:
  std::string root_, folder_;
  bool holds_ = false;
};

class DiskOffloadLimitTest : public testing::Test {
 protected:
  // A hash of the trained model.
  uint64_t Train(const std::string& name, const std::string& zero) {
    nlohmann::json config = TinyModelConfig(kLayers);
    config["hidden_size"] = kHidden;
    config["intermediate_size"] = kIntermediate;
    config["vocab_size"] = kVocabulary;
    config["num_attention_heads"] = config["num_key_value_heads"] = 16;
    config["tie_word_embeddings"] = true;
    config.erase("head_dim");
    EXPECT_TRUE(WriteTo(tiny_.model_folder() + "/config.json", config.dump()));
    const std::string json = absl::StrCat(folder_, "/", name, ".json");
    EXPECT_TRUE(WriteTo(json, absl::StrCat(R"({"bf16": {"enabled": true}, "zero_optimization":
        {"reduce_bucket_size": 2e7, "stage3_prefetch_bucket_size": 1e7, )",
                                           zero, "}}")));
    const std::string out = absl::StrCat(folder_, "/", name);
    const ProgramEnd end = RunProgram(
        kPretrain,
        {.arguments = tiny_.Flags(out, {"--bf16", "--grad_accum_dtype", "bf16", "--deepspeed", json,
                                        "--max_steps", "2", "--save_strategy", "no"})},
        /*timeout_seconds=*/1200);
    EXPECT_EQ(end.exit_code, 0) << end.Text();
    std::printf("%s: %.0f s\n", name.c_str(), end.seconds);
    const uint64_t bits = HashOf(out + "/model.safetensors");
    fs::remove_all(out);
    return bits;
  }

  const std::string folder_ = NewFolder();
  const TinyPretraining tiny_{folder_};
  const std::string on_disk_ =
      absl::StrCat(R"({"device": "nvme", "nvme_path": ")", folder_, R"("})");
};

TEST_F(DiskOffloadLimitTest, TrainsToTheBitsOfTheRunInMemory) {
  const uint64_t bits = Train("memory", R"("stage": 3, "stage3_param_persistence_threshold": 0)");
  {
    const MemoryLimit limit(16 * kParameters / 4);
    ASSERT_TRUE(limit.holds()) << "no right to make a memory cgroup here: run it as root";
    const std::string all = absl::StrCat(
        R"("stage": 3, "stage3_param_persistence_threshold": 0, "offload_optimizer": )", on_disk_,
        R"(, "offload_param": {"max_in_cpu": 0, )", on_disk_.substr(1));
    EXPECT_EQ(Train("all", all), bits);
  }
  const MemoryLimit limit(12 * kParameters * 2 / 3);
  EXPECT_EQ(Train("states", absl::StrCat(R"("stage": 2, "offload_optimizer": )", on_disk_)), bits);
}

}  // namespace
}  // namespace lathe
