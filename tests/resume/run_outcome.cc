#include "lathe/tests/resume/run_outcome.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/checkpoint/checkpoint_directory.h"
#include "lathe/checkpoint/manifest.h"
#include "lathe/tests/process/program.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

bool IsMeasured(const std::string& key) {
  return absl::EndsWith(key, "_runtime") || absl::EndsWith(key, "_per_second");
}

}  // namespace

RunOutcome ReadRunOutcome(const std::string& output_dir) {
  RunOutcome outcome;
  const std::vector<int64_t> steps = CheckpointsIn(output_dir);
  if (steps.empty()) {
    ADD_FAILURE() << "there is no checkpoint in " << output_dir;
    return outcome;
  }
  outcome.last_checkpoint = steps.back();
  const std::string checkpoint = absl::StrCat(output_dir, "/checkpoint-", steps.back());
  for (const char* name : {"model.safetensors", "optimizer.safetensors", "lathe_state.json"}) {
    outcome.files[absl::StrCat("checkpoint/", name)] =
        ReadFile(absl::StrCat(checkpoint, "/", name));
  }
  outcome.files["model.safetensors"] = ReadFile(output_dir + "/model.safetensors");
  const nlohmann::json state =
      nlohmann::json::parse(ReadFile(output_dir + "/trainer_state.json"), nullptr, false);
  if (!state.contains("log_history")) {
    ADD_FAILURE() << output_dir << "/trainer_state.json has no log_history";
    return outcome;
  }
  for (nlohmann::json entry : state["log_history"]) {
    nlohmann::json kept = nlohmann::json::object();
    for (const auto& [key, value] : entry.items()) {
      if (!IsMeasured(key)) kept[key] = value;
    }
    outcome.history.push_back(std::move(kept));
  }
  return outcome;
}

void ExpectSameOutcome(const RunOutcome& wanted, const RunOutcome& found) {
  EXPECT_EQ(wanted.last_checkpoint, found.last_checkpoint);
  for (const auto& [name, bytes] : wanted.files) {
    const auto other = found.files.find(name);
    if (other == found.files.end()) {
      ADD_FAILURE() << name << " is missing";
      continue;
    }
    // Not EXPECT_EQ: it would print the bytes.
    EXPECT_TRUE(bytes == other->second) << name << " differs from the uninterrupted run's";
  }
  EXPECT_EQ(wanted.history.dump(1), found.history.dump(1));
}

std::vector<int64_t> CheckpointsIn(const std::string& output_dir) {
  std::vector<int64_t> steps;
  std::error_code no_folder;
  for (const auto& entry : fs::directory_iterator(output_dir, no_folder)) {
    const std::optional<int64_t> step = CheckpointStep(entry.path().filename().string());
    if (step) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

void ExpectWholeCheckpoints(const std::string& output_dir) {
  for (const int64_t step : CheckpointsIn(output_dir)) {
    const absl::Status verified = VerifyManifest(absl::StrCat(output_dir, "/checkpoint-", step));
    EXPECT_TRUE(verified.ok()) << verified;
  }
}

void ExpectNoLeftovers(const std::string& output_dir) {
  for (const auto& entry : fs::directory_iterator(output_dir)) {
    EXPECT_FALSE(absl::StartsWith(entry.path().filename().string(), ".lathe-tmp-")) << entry.path();
  }
}

}  // namespace lathe
