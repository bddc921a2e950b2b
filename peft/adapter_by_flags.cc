#include "lathe/peft/adapter_by_flags.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "lathe/base/config/field_value.h"
#include "lathe/base/config/schema.h"

namespace lathe {
namespace {

// One word with a character that no name has is an expression; else there are names.
ModuleNames NamesByFlag(const google::protobuf::RepeatedPtrField<std::string>& words) {
  ModuleNames names;
  if (words.size() == 1 && words[0].find_first_of("*+?()[]{}|^$\\") != std::string::npos) {
    names.pattern = words[0];
    return names;
  }
  for (const std::string& word : words) {
    for (const std::string_view name : absl::StrSplit(word, ',', absl::SkipWhitespace())) {
      names.names.emplace_back(absl::StripAsciiWhitespace(name));
    }
  }
  return names;
}

// The flags that ask for something, but for those that say where a file is. What is at its default
// asks for nothing: a run's own run_config.json has every flag.
absl::StatusOr<std::vector<std::string>> ChangedFlags(const PeftArguments& arguments) {
  ABSL_ASSIGN_OR_RETURN(const ConfigSchema schema,
                        ConfigSchema::Create(PeftArguments::descriptor()));
  std::vector<std::string> changed;
  for (const ConfigField& field : schema.fields()) {
    const std::string name = field.name();
    if (name == "peft_type" || name == "peft_config" || name == "adapter_name_or_path") continue;
    if (IsChanged(field, arguments)) changed.push_back("--" + name);
  }
  return changed;
}

LoraConfig LoraByFlags(const PeftArguments& a) {
  LoraConfig config{.r = a.lora_r(),
                    .alpha = a.lora_alpha(),
                    .dropout = a.lora_dropout(),
                    .use_rslora = a.use_rslora()};
  TargetRules& targets = config.targets;
  targets.target_modules = NamesByFlag(a.target_modules());
  if (targets.target_modules.names.size() == 1 &&
      absl::AsciiStrToLower(targets.target_modules.names[0]) == "all-linear") {
    targets.target_modules = {.pattern = "all-linear", .names = {}};
    config.all_linear = true;
  }
  targets.exclude_modules = NamesByFlag(a.exclude_modules());
  targets.modules_to_save = {a.modules_to_save().begin(), a.modules_to_save().end()};
  targets.layers_to_transform = {a.layers_to_transform().begin(), a.layers_to_transform().end()};
  targets.layers_pattern = {a.layers_pattern().begin(), a.layers_pattern().end()};
  if (a.lora_bias() == "lora_only") config.bias = LoraBias::kLoraOnly;
  if (a.lora_bias() == "all") config.bias = LoraBias::kAll;
  if (a.init_lora_weights() == "gaussian") config.init = LoraInit::kGaussian;
  return config;
}

}  // namespace

absl::StatusOr<std::optional<LoraConfig>> AdapterByFlags(const PeftArguments& arguments) {
  ABSL_ASSIGN_OR_RETURN(const std::vector<std::string> given, ChangedFlags(arguments));
  if (arguments.has_peft_config() && arguments.has_adapter_name_or_path()) {
    return absl::InvalidArgumentError(
        "--adapter_name_or_path has its own adapter_config.json: leave --peft_config out");
  }
  const std::string file = arguments.has_peft_config() ? arguments.peft_config()
                           : arguments.has_adapter_name_or_path()
                               ? arguments.adapter_name_or_path() + "/adapter_config.json"
                               : "";
  if (!file.empty()) {
    if (!given.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(absl::StrJoin(given, " "),
                                                     ": the adapter is as ", file,
                                                     " says; change it there, or leave it out"));
    }
    return ReadLoraConfig(file);
  }
  if (arguments.peft_type() == "lora") return LoraByFlags(arguments);
  if (given.empty()) return std::nullopt;
  return absl::InvalidArgumentError(
      absl::StrCat(absl::StrJoin(given, " "), given.size() == 1 ? " is" : " are",
                   " of an adapter, and all weights would be trained: give --peft_type lora"));
}

}  // namespace lathe
