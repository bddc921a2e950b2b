#include "lathe/peft/module_matching.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace lathe {
namespace {

constexpr char kInstead[] =
    "list the modules by name, or put what is not wanted into exclude_modules";

// What Python's re has and RE2 has not, at the start of the rest of a pattern outside brackets.
const char* PythonOnly(std::string_view rest) {
  const auto starts = [&](const char* text) { return absl::StartsWith(rest, text); };
  if (starts("(?=") || starts("(?!") || starts("(?<=") || starts("(?<!")) {
    return "look-around, ";
  }
  if (starts("(?P=") || (rest.size() > 1 && rest[0] == '\\' && rest[1] >= '1' && rest[1] <= '9')) {
    return "a back-reference, ";
  }
  if (starts("(?>")) return "an atomic group, ";
  if (starts("(?(")) return "a conditional, ";
  if (starts("(?#")) return "a comment, ";
  return nullptr;
}

bool IsQuantifier(char c) { return c == '*' || c == '+' || c == '?' || c == '}'; }

// A Python expression in RE2's spelling. RE2 would read some of it otherwise than Python, without a
// word: those are put right, or refused.
absl::StatusOr<std::string> ToRe2(const std::string& pattern) {
  std::string out;
  bool in_set = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const std::string_view rest = std::string_view(pattern).substr(i);
    if (const char* what = in_set ? nullptr : PythonOnly(rest); what != nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("has ", what, "which expressions here do not have (RE2); ", kInstead));
    }
    if (rest[0] == '\\') {
      // Python's end of text.
      out += absl::StartsWith(rest, "\\Z") ? "\\z" : std::string(rest.substr(0, 2));
      ++i;
      continue;
    }
    if (in_set && absl::StartsWith(rest, "[:")) {
      return absl::InvalidArgumentError(
          "has [: in a set, which is no class of characters in Python; write the characters");
    }
    if (!in_set && absl::StartsWith(rest, "{,")) {
      out += "{0";  // {,n}: RE2 would take it as it is written
      continue;
    }
    if (!in_set && rest[0] == '+' && i > 0 && IsQuantifier(pattern[i - 1]) &&
        (i < 2 || pattern[i - 2] != '\\')) {
      return absl::InvalidArgumentError(absl::StrCat(
          "has a possessive quantifier, which expressions here do not have (RE2); ", kInstead));
    }
    if (rest[0] == '[' && !in_set) {
      in_set = true;
      // A bracket right behind the opening is a character.
      const size_t literal = absl::StartsWith(rest, "[^]")  ? 3
                             : absl::StartsWith(rest, "[]") ? 2
                                                            : 0;
      if (literal > 0) {
        out += rest.substr(0, literal);
        i += literal - 1;
        continue;
      }
    } else if (rest[0] == ']' && in_set) {
      in_set = false;
    }
    out += rest[0];
  }
  return out;
}

absl::StatusOr<std::shared_ptr<const RE2>> Compile(const std::string& pattern,
                                                   const std::string& before,
                                                   const std::string& after,
                                                   const std::string& field) {
  const absl::StatusOr<std::string> translated = ToRe2(pattern);
  if (!translated.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, " '", pattern, "' ", translated.status().message()));
  }
  auto expression =
      std::make_shared<const RE2>(absl::StrCat(before, *translated, after), RE2::Quiet);
  if (!expression->ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, " '", pattern, "' is no regular expression: ", expression->error()));
  }
  return expression;
}

re2::StringPiece Piece(std::string_view text) { return {text.data(), text.size()}; }

// Python's re.match: from the start.
bool MatchesStart(const RE2& expression, std::string_view text, std::string* group = nullptr) {
  const int num_groups = 1 + expression.NumberOfCapturingGroups();
  std::vector<re2::StringPiece> groups(static_cast<size_t>(num_groups));
  if (!expression.Match(Piece(text), 0, text.size(), RE2::ANCHOR_START, groups.data(),
                        num_groups)) {
    return false;
  }
  const auto& names = expression.NamedCapturingGroups();
  if (const auto index = names.find("idx"); group != nullptr && index != names.end()) {
    const re2::StringPiece& found = groups[static_cast<size_t>(index->second)];
    *group = std::string(found.data() == nullptr ? "" : found.data(), found.size());
  }
  return true;
}

bool IsEqualOrSuffix(const std::vector<std::string>& names, std::string_view module) {
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return module == name || absl::EndsWith(module, "." + name);
  });
}

bool Contains(const std::vector<std::string>& names, std::string_view module) {
  return std::find(names.begin(), names.end(), module) != names.end();
}

}  // namespace

absl::StatusOr<ModuleMatcher> ModuleMatcher::Create(const TargetRules& rules) {
  ModuleMatcher matcher;
  matcher.rules_ = rules;
  if (rules.target_modules.empty()) {
    return absl::InvalidArgumentError("target_modules: which modules to adapt is not given");
  }
  if (rules.target_modules.pattern && !rules.layers_to_transform.empty()) {
    return absl::InvalidArgumentError(
        "layers_to_transform does not go with an expression in target_modules; put the layers into "
        "the expression, or list the modules by name");
  }
  if (!rules.layers_pattern.empty() && rules.layers_to_transform.empty()) {
    return absl::InvalidArgumentError("layers_pattern needs layers_to_transform");
  }
  if (rules.target_modules.pattern) {
    ABSL_ASSIGN_OR_RETURN(matcher.target_,
                          Compile(*rules.target_modules.pattern, "", "", "target_modules"));
  }
  if (rules.exclude_modules.pattern && !rules.exclude_modules.pattern->empty()) {
    ABSL_ASSIGN_OR_RETURN(matcher.exclude_,
                          Compile(*rules.exclude_modules.pattern, "", "", "exclude_modules"));
  }
  for (const std::string& name : rules.modules_to_save) {
    ABSL_ASSIGN_OR_RETURN(matcher.modules_to_save_.emplace_back(),
                          Compile(name, "(^|.*\\.)", "($|\\..*)", "modules_to_save"));
  }
  constexpr char kIndex[] = "\\.(?P<idx>\\d+)\\.";
  for (const std::string& pattern : rules.layers_pattern) {
    ABSL_ASSIGN_OR_RETURN(matcher.layers_.emplace_back(),
                          Compile(pattern, "(?:^|.*?\\.)", kIndex, "layers_pattern"));
  }
  if (rules.layers_pattern.empty()) {
    ABSL_ASSIGN_OR_RETURN(matcher.layers_.emplace_back(),
                          Compile("", ".*?\\.[^.]*", kIndex, "layers_pattern"));
  }
  return matcher;
}

bool ModuleMatcher::IsExcluded(std::string_view module) const {
  if (exclude_ != nullptr && RE2::FullMatch(Piece(module), *exclude_)) return true;
  if (IsEqualOrSuffix(rules_.exclude_modules.names, module)) return true;
  return std::any_of(modules_to_save_.begin(), modules_to_save_.end(),
                     [&](const Expression& saved) { return MatchesStart(*saved, module); });
}

bool ModuleMatcher::IsInLayers(std::string_view module) const {
  std::string index;
  for (const Expression& layer : layers_) {
    if (MatchesStart(*layer, module, &index)) break;
  }
  int number = 0;
  return absl::SimpleAtoi(index, &number) &&
         std::find(rules_.layers_to_transform.begin(), rules_.layers_to_transform.end(), number) !=
             rules_.layers_to_transform.end();
}

bool ModuleMatcher::Matches(std::string_view module) const {
  if (IsExcluded(module)) return false;
  if (target_ != nullptr) return RE2::FullMatch(Piece(module), *target_);
  if (Contains(rules_.target_modules.names, module)) return true;
  if (!IsEqualOrSuffix(rules_.target_modules.names, module)) return false;
  return rules_.layers_to_transform.empty() || IsInLayers(module);
}

absl::StatusOr<PatternKeys> PatternKeys::Create(const std::vector<std::string>& keys,
                                                const std::string& field) {
  PatternKeys result;
  result.keys_ = keys;
  for (const std::string& key : keys) {
    ABSL_ASSIGN_OR_RETURN(result.expressions_.emplace_back(),
                          Compile(key, "(.*\\.)?(", ")$", field));
  }
  return result;
}

std::optional<std::string> PatternKeys::Find(std::string_view module) const {
  for (size_t i = 0; i < keys_.size(); ++i) {
    if (MatchesStart(*expressions_[i], module)) return keys_[i];
  }
  return std::nullopt;
}

}  // namespace lathe
