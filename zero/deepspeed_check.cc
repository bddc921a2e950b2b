#include "lathe/zero/deepspeed_check.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "lathe/base/config/did_you_mean.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;
using Kind = DeepSpeedType::Kind;

std::string Shown(double number) {
  return number == std::trunc(number) && std::abs(number) < 1e18
             ? absl::StrCat(static_cast<int64_t>(number))
             : absl::StrCat(number);
}

// Whether `value` is one of `texts`: JSON values, separated by blanks.
bool IsOneOf(const Json& value, std::string_view texts) {
  for (const std::string_view text : absl::StrSplit(texts, ' ', absl::SkipEmpty())) {
    // nlohmann calls 1 and 1.0 equal.
    const Json word = Json::parse(text);
    if (value == word ||
        (value.is_string() && word.is_string() &&
         absl::EqualsIgnoreCase(value.get<std::string>(), word.get<std::string>()))) {
      return true;
    }
  }
  return false;
}

// Whether a block asks for something: by its own `enabled` (or deepcompile), and where it has none,
// by those of the blocks within.
bool IsSwitchedOn(const Json& block) {
  if (!block.is_object()) return false;
  bool has_switch = false, on = false;
  for (const char* name : {"enabled", "deepcompile"}) {
    const auto found = block.find(name);
    if (found == block.end()) continue;
    has_switch = true;
    on = on || (found->is_boolean() && found->get<bool>());
  }
  if (has_switch) return on;
  for (const Json& inner : block) {
    if (IsSwitchedOn(inner)) return true;
  }
  return false;
}

// What the type expects of a value: "" when it fits.
std::string Expectation(const DeepSpeedType& type, const Json& value) {
  switch (type.kind) {
    case Kind::kBlock:
    case Kind::kSwitch:
      return value.is_object() ? "" : "an object";
    case Kind::kBool:
      return value.is_boolean() ? "" : "true or false";
    case Kind::kText: {
      if (!value.is_string()) return "a string";
      const std::vector<std::string> words = absl::StrSplit(type.words, ' ', absl::SkipEmpty());
      for (const std::string& word : words) {
        if (absl::EqualsIgnoreCase(word, value.get<std::string>())) return "";
      }
      return words.empty() ? "" : absl::StrCat("one of ", absl::StrJoin(words, ", "));
    }
    case Kind::kAny:
      return "";
    case Kind::kInteger:
    case Kind::kNumber:
      break;
  }
  const bool integer = type.kind == Kind::kInteger;
  const double number = value.is_number() ? value.get<double>() : std::nan("");
  if (number >= type.min && number <= type.max && (!integer || number == std::trunc(number)))
    return "";
  const std::string_view noun = integer ? "an integer" : "a number";
  if (value.is_number() && integer && number == std::trunc(number) && type.max <= 1 << 30) {
    return absl::StrCat(Shown(type.min), " to ", Shown(type.max));
  }
  if (type.max <= 1 << 30) {
    return absl::StrCat(noun, " from ", Shown(type.min), " to ", Shown(type.max));
  }
  return number > type.max ? absl::StrCat(noun, " of at most ", Shown(type.max))
                           : absl::StrCat(noun, " of at least ", Shown(type.min));
}

// Where a key that is unknown may belong.
std::string Suggestion(const std::string& name, const std::string& path) {
  const std::string similar = DidYouMean(name, DeepSpeedKeysIn(path));
  if (!similar.empty()) return similar;
  const std::vector<std::string> blocks = DeepSpeedBlocksWith(name);
  if (blocks.empty()) return "";
  return absl::StrCat(" (it belongs in ", absl::StrJoin(blocks, " or "), ")");
}

}  // namespace

absl::Status DeepSpeedCheck::Check(const Json& root) {
  CheckBlock(root, "");
  std::vector<std::string> problems = problems_;
  if (!unknown_.empty()) {
    problems.insert(problems.begin(), absl::StrCat("unknown key", unknown_.size() > 1 ? "s " : " ",
                                                   absl::StrJoin(unknown_, ", ")));
  }
  if (problems.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(source_, ": ", absl::StrJoin(problems, "; ")));
}

const Json* DeepSpeedCheck::Find(std::string_view path) const {
  const auto found = values_.find(path);
  return found == values_.end() ? nullptr : found->second;
}

void DeepSpeedCheck::CheckBlock(const Json& block, const std::string& path) {
  for (auto it = block.begin(); it != block.end(); ++it) {
    const std::string key_path = path.empty() ? it.key() : absl::StrCat(path, ".", it.key());
    const DeepSpeedKey* key = FindDeepSpeedKey(key_path);
    if (key == nullptr) {
      unknown_.push_back(absl::StrCat(key_path, Suggestion(it.key(), path)));
    } else if (!it.value().is_null()) {
      CheckKey(*key, it.value(), key_path);
    }
  }
}

void DeepSpeedCheck::CheckKey(const DeepSpeedKey& key, const Json& value, const std::string& path) {
  if (IsAutoJson(value) && (key.takes_auto || IsOneOf(value, key.neutral))) {
    Keep(key, value, path);
    return;
  }
  const std::string expected = Expectation(key.type, value);
  if (!expected.empty()) {
    problems_.push_back(absl::StrCat(path, " is ", ShownJson(value), "; expected ", expected,
                                     key.takes_auto ? " or \"auto\"" : ""));
    return;
  }
  if (key.type.kind == Kind::kBlock) {
    if (Keep(key, value, path)) CheckBlock(value, path);
  } else if (key.type.kind == Kind::kSwitch) {
    CheckSwitch(key, value, path);
  } else if (key.fate == DeepSpeedKey::Fate::kHonoured) {
    Keep(key, value, path);
  } else if (!IsOneOf(value, key.neutral)) {
    Tell(key, path, value.is_object() ? "" : absl::StrCat(" ", ShownJson(value)));
  }
}

void DeepSpeedCheck::CheckSwitch(const DeepSpeedKey& key, const Json& value,
                                 const std::string& path) {
  const std::vector<std::string> known = absl::StrSplit(key.type.words, ' ');
  for (auto it = value.begin(); it != value.end(); ++it) {
    const bool is_known = std::find(known.begin(), known.end(), it.key()) != known.end();
    if (!is_known) {
      unknown_.push_back(absl::StrCat(path, ".", it.key(), DidYouMean(it.key(), known)));
    } else if (it.key() == "enabled" && !it.value().is_boolean() && !it.value().is_null() &&
               !IsAutoJson(it.value())) {
      problems_.push_back(
          absl::StrCat(path, ".enabled is ", ShownJson(it.value()), "; expected true or false"));
    }
  }
  if (IsSwitchedOn(value)) Tell(key, path, "");
}

void DeepSpeedCheck::Tell(const DeepSpeedKey& key, std::string_view path, std::string_view value) {
  if (key.fate == DeepSpeedKey::Fate::kIgnored) {
    notes_.push_back(absl::StrCat(source_, ": ", path, value, " is ignored: ", key.reason));
  } else {
    problems_.push_back(
        absl::StrCat(path, value, " is not implemented in this version: ", key.reason));
  }
}

bool DeepSpeedCheck::Keep(const DeepSpeedKey& key, const Json& value, const std::string& path) {
  if (values_.insert({std::string(key.path), &value}).second) return true;
  problems_.push_back(absl::StrCat(path, " is given twice: it is ", key.path));
  return false;
}

std::string ShownJson(const Json& value) {
  constexpr size_t kMost = 60;
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() > kMost ? absl::StrCat(text.substr(0, kMost), "...") : text;
}

bool IsAutoJson(const Json& value) { return value.is_string() && value == "auto"; }

}  // namespace lathe
