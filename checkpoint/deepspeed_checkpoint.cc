#include "lathe/checkpoint/deepspeed_checkpoint.h"

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "lathe/checkpoint/posix_file.h"

namespace lathe {
namespace {

bool HoldsStates(const std::string& directory) {
  const absl::StatusOr<std::vector<std::string>> names = ListDirectory(directory);
  if (!names.ok()) return false;
  for (const std::string& name : *names) {
    if (absl::EndsWith(name, "_model_states.pt") || absl::EndsWith(name, "_optim_states.pt")) {
      return true;
    }
  }
  return false;
}

// What is above "…/global_step500".
std::string Above(std::string_view directory) {
  while (directory.size() > 1 && directory.back() == '/') directory.remove_suffix(1);
  const size_t slash = directory.rfind('/');
  return slash == std::string_view::npos ? "." : std::string(directory.substr(0, slash));
}

}  // namespace

absl::Status RefuseDeepSpeedCheckpoint(const std::string& directory) {
  std::string root;
  if (HoldsStates(directory)) {
    root = Above(directory);
  } else if (const auto names = ListDirectory(directory); names.ok()) {
    for (const std::string& name : *names) {
      if (name == "zero_to_fp32.py" || HoldsStates(JoinPath(directory, name))) root = directory;
    }
  }
  if (root.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      directory,
      " is a checkpoint of DeepSpeed's, pickled, which is never read since a pickle can run code; "
      "its weights can be had as safetensors, where you trust it: python3 ",
      JoinPath(root, "zero_to_fp32.py"), " ", root,
      " NEW_FOLDER --safe_serialization; then copy config.json and the tokenizer there and go on "
      "with --model_name_or_path NEW_FOLDER (the optimizer starts anew)"));
}

}  // namespace lathe
