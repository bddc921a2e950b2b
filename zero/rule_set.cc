#include "lathe/zero/rule_set.h"

#include <algorithm>
#include <string_view>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"

namespace lathe {
namespace {

// Whether one of the name's components is one of these, or has `part` in it.
bool HasComponent(std::string_view name, std::initializer_list<std::string_view> words,
                  std::string_view part) {
  for (const std::string_view component : absl::StrSplit(name, '.')) {
    if (absl::c_linear_search(words, component)) return true;
    if (!part.empty() && absl::StrContains(component, part)) return true;
  }
  return false;
}

}  // namespace

bool IsEmbedding(const Parameter& parameter) {
  return HasComponent(parameter.name(), {"wte", "wpe"}, "embed");
}

bool IsHead(const Parameter& parameter) {
  return HasComponent(parameter.name(), {"lm_head", "score", "classifier", "v_head"}, "");
}

std::vector<const UpdateRule*> RuleSet::Rules() const {
  std::vector<const UpdateRule*> rules = {rule.get()};
  if (rest != nullptr) rules.push_back(rest.get());
  return rules;
}

bool RuleSet::RestrictsCuts() const {
  const std::vector<const UpdateRule*> rules = Rules();
  return std::any_of(rules.begin(), rules.end(), [](const UpdateRule* rule) {
    return rule->cuts() != UpdateRule::Cuts::kAnywhere;
  });
}

RuleSet AdamWRules(const AdamOptions& options) {
  return {.name = "adamw", .rule = std::make_shared<AdamW>(options)};
}

RuleSet AdamRules(const AdamOptions& options) {
  return {.name = "adam", .rule = std::make_shared<Adam>(options)};
}

RuleSet SgdRules(const SgdOptions& options) {
  return {.name = options.momentum == 0 ? "sgd" : "sgd with momentum",
          .rule = std::make_shared<Sgd>(options)};
}

RuleSet LionRules(const LionOptions& options) {
  return {.name = "lion", .rule = std::make_shared<Lion>(options)};
}

}  // namespace lathe
