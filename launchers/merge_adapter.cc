// bazel run //launchers:merge_adapter -- --adapter_name_or_path out --output_dir merged
// Puts a LoRA adapter into the weights of its model: a model folder that needs no adapter.
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "lathe/base/config/flags.h"
#include "lathe/base/read_file.h"
#include "lathe/checkpoint/atomic_directory.h"
#include "lathe/checkpoint/checkpoint.h"
#include "lathe/checkpoint/model_files.h"
#include "lathe/launchers/main_guard.h"
#include "lathe/launchers/run_config.pb.h"
#include "lathe/peft/lora/lora_config.h"
#include "lathe/peft/lora/lora_merge.h"

namespace {

namespace fs = std::filesystem;

absl::Status CheckFolders(const lathe::MergeArguments& a) {
  if (a.adapter_name_or_path().empty()) {
    return absl::InvalidArgumentError("--adapter_name_or_path is missing: the adapter's folder");
  }
  std::error_code error;
  if (fs::exists(a.output_dir(), error) &&
      (!fs::is_directory(a.output_dir(), error) || !fs::is_empty(a.output_dir(), error))) {
    return absl::FailedPreconditionError(absl::StrCat(
        a.output_dir(), " is there already; give a new or an empty folder by --output_dir"));
  }
  return absl::OkStatus();
}

// --model_name_or_path, or what the adapter's configuration names.
absl::StatusOr<std::string> BaseFolder(const lathe::MergeArguments& a,
                                       const lathe::LoraConfig& config) {
  const std::string base =
      a.has_model_name_or_path() ? a.model_name_or_path() : config.base_model_name_or_path;
  if (fs::is_directory(base)) return base;
  return absl::NotFoundError(
      absl::StrCat(a.has_model_name_or_path() ? "--model_name_or_path "
                                              : "adapter_config.json: base_model_name_or_path ",
                   base.empty() ? "(none)" : base,
                   " is no folder here; give the model's folder by --model_name_or_path"));
}

absl::StatusOr<int> Run(int argc, char** argv) {
  lathe::MergeConfig flags;
  ABSL_ASSIGN_OR_RETURN(
      const lathe::ParsedFlags parsed,
      lathe::ParseFlags(argc, argv,
                        {.summary = "Puts a LoRA adapter into the weights of its model.",
                         .example = "bazel run //launchers:merge_adapter -- "
                                    "--adapter_name_or_path out --output_dir merged"},
                        &flags));
  if (!parsed.print.empty()) {
    return std::fputs(parsed.print.c_str(), stdout) < 0 || std::fflush(stdout) != 0;
  }
  const lathe::MergeArguments& a = flags.merge();
  ABSL_RETURN_IF_ERROR(CheckFolders(a));
  ABSL_ASSIGN_OR_RETURN(const lathe::LoraConfig config,
                        lathe::ReadLoraConfig(a.adapter_name_or_path() + "/adapter_config.json"));
  ABSL_ASSIGN_OR_RETURN(const std::string base_folder, BaseFolder(a, config));
  ABSL_ASSIGN_OR_RETURN(const lathe::ModelFiles base, lathe::ModelFiles::Open(base_folder));
  ABSL_ASSIGN_OR_RETURN(const lathe::ModelFiles adapter,
                        lathe::ModelFiles::Open(a.adapter_name_or_path(), "adapter_model"));
  ABSL_ASSIGN_OR_RETURN(const lathe::MergedModel merged, lathe::MergeLora(base, adapter, config));

  ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<lathe::AtomicDirectory> directory,
                        lathe::AtomicDirectory::Create(a.output_dir(), "model", {}));
  ABSL_RETURN_IF_ERROR(lathe::SaveTensors(*directory, "model", merged.tensors));
  for (const char* name :
       {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "special_tokens_map.json", "vocab.json", "merges.txt", "chat_template.jinja"}) {
    // The adapter's own tokenizer, where it has one.
    const bool is_model =
        std::string(name).ends_with("config.json") && std::string(name) != "tokenizer_config.json";
    for (const std::string& folder :
         {is_model ? base_folder : a.adapter_name_or_path(), base_folder}) {
      if (!fs::exists(folder + "/" + name)) continue;
      ABSL_ASSIGN_OR_RETURN(const std::string bytes, lathe::ReadFile(folder + "/" + name));
      directory->WriteFile(name, bytes);
      break;
    }
  }
  ABSL_RETURN_IF_ERROR(directory->CommitIntoParent());
  std::printf("Merged %d weights and replaced %d tensors of %s; the model is in %s\n",
              merged.num_merged, merged.num_replaced, base_folder.c_str(), a.output_dir().c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  lathe::GuardedMain([&] { return Run(argc, argv); });
}
