#include "lathe/checkpoint/deepspeed_checkpoint.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

std::string Folder(const std::string& name) {
  const std::string path = testing::TempDir() + "/" + name;
  fs::remove_all(path);
  fs::create_directories(path);
  return path;
}

void Touch(const std::string& path) {
  fs::create_directories(fs::path(path).parent_path());
  std::ofstream(path) << "x";
}

TEST(DeepSpeedCheckpointTest, WhatDeepSpeedSavedIsToldWithTheWayOut) {
  const std::string root = Folder("theirs");
  Touch(root + "/latest");
  Touch(root + "/global_step500/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt");
  for (const std::string& path : {root, root + "/global_step500", root + "/global_step500/"}) {
    const absl::Status refused = RefuseDeepSpeedCheckpoint(path);
    EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition) << path;
    EXPECT_TRUE(absl::StrContains(refused.message(),
                                  "python3 " + root + "/zero_to_fp32.py " + root + " NEW_FOLDER"))
        << refused;
  }
  const std::string script = Folder("script");
  Touch(script + "/zero_to_fp32.py");
  EXPECT_FALSE(RefuseDeepSpeedCheckpoint(script).ok());
}

TEST(DeepSpeedCheckpointTest, OthersPass) {
  const std::string mine = Folder("mine");
  Touch(mine + "/model.safetensors");
  Touch(mine + "/checkpoint-5/manifest.json");
  Touch(mine + "/pytorch_model.bin");
  EXPECT_TRUE(RefuseDeepSpeedCheckpoint(mine).ok());
  EXPECT_TRUE(RefuseDeepSpeedCheckpoint(mine + "/absent").ok());
}

}  // namespace
}  // namespace lathe
