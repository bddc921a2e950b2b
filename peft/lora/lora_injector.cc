#include "lathe/peft/lora/lora_injector.h"

#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include "absl/status/status_macros.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "lathe/peft/lora/lora_linear.h"

namespace lathe {
namespace {

constexpr std::string_view kPrefix = "base_model.model.";

// Which of modules_to_save the parameter is of, or null. peft takes the end of a name, wherever it
// begins.
const std::string* SavedModule(const LoraConfig& config, std::string_view parameter) {
  std::string_view module = parameter;
  if (!absl::ConsumeSuffix(&module, ".weight")) absl::ConsumeSuffix(&module, ".bias");
  for (const std::string& name : config.targets.modules_to_save) {
    if (absl::EndsWith(module, name)) return &name;
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<LoraInjector> LoraInjector::Create(const LoraConfig& config) {
  TargetRules rules = config.targets;
  if (config.all_linear) rules.target_modules = {.pattern = ".*", .names = {}};
  ABSL_ASSIGN_OR_RETURN(ModuleMatcher matcher, ModuleMatcher::Create(rules));
  for (const char* module : {"lm_head", "model.embed_tokens"}) {
    if (config.all_linear || !matcher.Matches(module)) continue;
    return absl::UnimplementedError(
        absl::StrCat("target_modules names ", module,
                     ", where LoRA is not implemented; leave it out "
                     "(exclude_modules), or train it whole by modules_to_save"));
  }
  ABSL_ASSIGN_OR_RETURN(LoraScale scale, LoraScale::Create(config));
  return LoraInjector(config, std::move(matcher), std::move(scale));
}

void LoraInjector::OnLayer(AdapterPoint& point) {
  const std::string& module = point.module();
  seen_.push_back(module);
  if (!matcher_.Matches(module)) return;
  adapted_.push_back(module);
  point.Add(std::make_unique<LoraLinear>(point, LoraOptions{.r = scale_.Rank(module),
                                                            .scaling = scale_.Scaling(module),
                                                            .dropout = config_.dropout,
                                                            .init = config_.init}));
}

void LoraInjector::Freeze(absl::Span<Parameter* const> parameters) {
  const std::set<std::string> adapted(adapted_.begin(), adapted_.end());
  for (Parameter* parameter : parameters) {
    std::string_view module = parameter->name();
    const bool is_bias = absl::ConsumeSuffix(&module, ".bias");
    const bool trains_bias =
        config_.bias == LoraBias::kAll ||
        (config_.bias == LoraBias::kLoraOnly && adapted.contains(std::string(module)));
    const std::string* const saved = SavedModule(config_, parameter->name());
    if (saved != nullptr) saved_.push_back(*saved);
    parameter->set_trainable(IsOwnParameter(parameter->name()) || saved != nullptr ||
                             (is_bias && trains_bias));
  }
}

bool IsOwnParameter(std::string_view parameter) { return absl::StartsWith(parameter, kPrefix); }

std::string AdapterFileName(std::string_view parameter, const std::set<std::string>& adapted) {
  if (IsOwnParameter(parameter)) return absl::StrReplaceAll(parameter, {{".default.", "."}});
  std::string_view module = parameter;
  const bool is_bias = absl::ConsumeSuffix(&module, ".bias");
  if (is_bias && adapted.contains(std::string(module))) {
    return absl::StrCat(kPrefix, module, ".base_layer.bias");
  }
  return absl::StrCat(kPrefix, parameter);
}

absl::Status CheckAdapted(const LoraConfig& config, const std::vector<std::string>& adapted,
                          const std::vector<std::string>& modules,
                          const std::vector<std::string>& saved) {
  for (const std::string& name : config.targets.modules_to_save) {
    if (std::find(saved.begin(), saved.end(), name) != saved.end()) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "modules_to_save ", name, " names no module of the model that has weights of its own"));
  }
  if (!adapted.empty()) return absl::OkStatus();
  // Of one layer, for a person to choose from.
  std::set<std::string> ends;
  for (const std::string& module : modules) ends.insert(module.substr(module.rfind('.') + 1));
  const ModuleNames& targets = config.targets.target_modules;
  return absl::InvalidArgumentError(absl::StrCat(
      "target_modules ", targets.pattern ? *targets.pattern : absl::StrJoin(targets.names, ","),
      " names no linear layer of the model, or what it names is left out by exclude_modules, "
      "modules_to_save or layers_to_transform; the model's are ",
      absl::StrJoin(ends, ", "), modules.empty() ? "" : absl::StrCat(", such as ", modules[0])));
}

}  // namespace lathe
