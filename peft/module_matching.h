// Which modules an adapter is put on, by PEFT's rules, and which rank or alpha a module has.
//
//   ABSL_ASSIGN_OR_RETURN(const ModuleMatcher matcher,
//                         ModuleMatcher::Create({.target_modules = {.names = {"q_proj",
//                         "v_proj"}}}));
//   matcher.Matches("model.layers.0.self_attn.q_proj")   // true
//
// In order: exclude_modules and modules_to_save are never adapted; a pattern must match the whole
// name; of a list, a name must be equal or end with "." and one of them, and only then, when it is
// not equal, layers_to_transform has a say.
//
// Expressions are Python's as far as RE2 has them (linear time, whatever the pattern): look-around,
// back-references and the like are refused with what to write instead.
//
// Immutable; thread-safe.
//
// Source: peft 0.21.2, tuners/tuners_utils.py check_target_module_exists, utils/other.py
// get_pattern_key.
#ifndef LATHE_PEFT_MODULE_MATCHING_H_
#define LATHE_PEFT_MODULE_MATCHING_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "re2/re2.h"

namespace lathe {

// One expression, or a list of names; neither: nothing.
struct ModuleNames {
  std::optional<std::string> pattern;
  std::vector<std::string> names;

  bool empty() const { return (!pattern || pattern->empty()) && names.empty(); }
};

struct TargetRules {
  ModuleNames target_modules;
  ModuleNames exclude_modules;
  std::vector<std::string> modules_to_save;  // expressions within a name
  // Only of these layers; empty: of all. With target_modules.names only.
  std::vector<int> layers_to_transform;
  std::vector<std::string> layers_pattern;  // what stands before a layer's number; empty: anything
};

class ModuleMatcher {
 public:
  // Errors: InvalidArgument with the field: no target_modules, layers_to_transform with a pattern,
  // an expression that is none or that RE2 does not have.
  static absl::StatusOr<ModuleMatcher> Create(const TargetRules& rules);

  bool Matches(std::string_view module) const;
  // Whether it is left out whatever target_modules say.
  bool IsExcluded(std::string_view module) const;

 private:
  using Expression = std::shared_ptr<const RE2>;

  bool IsInLayers(std::string_view module) const;

  TargetRules rules_;
  Expression target_, exclude_;
  std::vector<Expression> modules_to_save_, layers_;
};

// Keys of rank_pattern or alpha_pattern, in their order.
class PatternKeys {
 public:
  // `field`: the name for messages. Errors: as ModuleMatcher's.
  static absl::StatusOr<PatternKeys> Create(const std::vector<std::string>& keys,
                                            const std::string& field);

  // The first key that matches the end of the module's name, from a dot or from its start.
  std::optional<std::string> Find(std::string_view module) const;

 private:
  std::vector<std::string> keys_;
  std::vector<std::shared_ptr<const RE2>> expressions_;
};

}  // namespace lathe

#endif  // LATHE_PEFT_MODULE_MATCHING_H_
