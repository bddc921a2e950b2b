#include "lathe/zero/rule_set.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "lathe/zero/bf16_states.h"
#include "lathe/zero/eight_bit_states.h"

namespace lathe {
namespace {

// Below which states stay as they are; bitsandbytes' min_8bit_size.
constexpr int64_t kMinEightBitElements = 4096;

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

RuleSet MuonRules(const MuonOptions& options, const AdamOptions& adam) {
  return {.name = "muon",
          .rule = std::make_shared<Muon>(options),
          .rest = std::make_shared<AdamW>(adam),
          .covers = [](const Parameter& parameter) {
            return parameter.full_shape().size() == 2 && !IsEmbedding(parameter) &&
                   !IsHead(parameter);
          }};
}

RuleSet AdafactorRules(const AdafactorOptions& options) {
  return {.name = "adafactor",
          .rule = std::make_shared<AdafactorMatrix>(options),
          .rest = std::make_shared<AdafactorVector>(options),
          .covers = [](const Parameter& parameter) { return parameter.full_shape().size() >= 2; }};
}

RuleSet WithBf16States(RuleSet rules) {
  rules.rule = std::make_shared<Bf16States>(std::move(rules.rule));
  return rules;
}

RuleSet WithEightBitStates(RuleSet rules) {
  return {.name = absl::StrCat(rules.name, "_8bit"),
          .rule = std::make_shared<EightBitStates>(rules.rule),
          .rest = rules.rule,
          .covers = [](const Parameter& parameter) {
            return parameter.tensor().numel() >= kMinEightBitElements && !IsEmbedding(parameter);
          }};
}

}  // namespace lathe
