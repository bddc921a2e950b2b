#include "lathe/base/config/flags.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status_macros.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "lathe/base/config/config_file.h"
#include "lathe/base/config/did_you_mean.h"
#include "lathe/base/config/field_value.h"
#include "lathe/base/config/help.h"
#include "lathe/base/config/schema.h"
#include "lathe/base/user_path.h"

namespace lathe {
namespace {

using google::protobuf::Message;
using google::protobuf::Reflection;

// One flag as typed: "--name", what follows '=', and the arguments up to the next flag.
struct Token {
  std::string typed;  // "--learning-rate"
  std::string name;   // "learning_rate"
  std::optional<std::string> inline_value;
  std::vector<std::string> values;
};

// "-1", "-.5" and "-1e3" are values, "-x" and "--x" are not.
bool LooksLikeFlag(std::string_view argument) {
  if (argument.size() < 2 || argument[0] != '-') return false;
  const char second = argument[1];
  return !absl::ascii_isdigit(second) && second != '.';
}

std::string Stray(std::string_view argument) {
  std::string message = absl::StrCat("unexpected argument '", argument, "'");
  if (absl::EndsWith(argument, ".json") || absl::EndsWith(argument, ".textproto")) {
    absl::StrAppend(&message, " (to read a configuration file: --config ", argument, ")");
  } else if (absl::StartsWith(argument, "-")) {
    absl::StrAppend(&message, " (flags begin with --)");
  }
  return message;
}

class FlagParser {
 public:
  FlagParser(const ConfigSchema& schema, const FlagsOptions& options, Message* config)
      : schema_(schema), options_(options), config_(config) {}

  absl::StatusOr<ParsedFlags> Parse(absl::Span<const char* const> arguments) {
    Split(arguments);
    for (const Token& token : tokens_) {
      if (token.name == "help" || token.name == "explain") return Print(token);
    }
    // The file first, wherever --config stands, since flags win over it.
    const auto is_config = [](const Token& token) { return token.name == "config"; };
    if (std::count_if(tokens_.begin(), tokens_.end(), is_config) > 1) {
      return absl::InvalidArgumentError("--config is given twice");
    }
    const auto file = std::find_if(tokens_.begin(), tokens_.end(), is_config);
    if (file != tokens_.end()) {
      ABSL_RETURN_IF_ERROR(ReadFile(*file));
    }
    for (const Token& token : tokens_) {
      if (!is_config(token)) Apply(token);
    }
    if (!unknown_.empty()) {
      problems_.insert(problems_.begin(),
                       absl::StrCat("unknown flag", unknown_.size() > 1 ? "s " : " ",
                                    absl::StrJoin(unknown_, ", "), "; --help lists all flags"));
    }
    if (!problems_.empty()) return absl::InvalidArgumentError(absl::StrJoin(problems_, "; "));
    ResolvePaths();
    return ParsedFlags{};
  }

 private:
  void Split(absl::Span<const char* const> arguments) {
    for (const char* argument : arguments) {
      std::string_view text = argument;
      if (text == "-h") text = "--help";
      if (absl::StartsWith(text, "--") && text.size() > 2) {
        Token token;
        const size_t equals = text.find('=');
        token.typed = text.substr(0, equals);
        token.name = absl::StrReplaceAll(token.typed.substr(2), {{"-", "_"}});
        if (equals != std::string_view::npos) token.inline_value = text.substr(equals + 1);
        tokens_.push_back(std::move(token));
      } else if (LooksLikeFlag(text) || tokens_.empty()) {
        problems_.push_back(Stray(text));
      } else {
        tokens_.back().values.emplace_back(text);
      }
    }
  }

  absl::StatusOr<ParsedFlags> Print(const Token& token) const {
    std::string argument = token.inline_value.value_or(token.values.empty() ? "" : token.values[0]);
    if (token.name == "help") {
      ABSL_ASSIGN_OR_RETURN(std::string text, HelpText(schema_, *config_, options_, argument));
      return ParsedFlags{std::move(text)};
    }
    ABSL_ASSIGN_OR_RETURN(std::string text, ExplainText(schema_, *config_, options_, argument));
    return ParsedFlags{std::move(text)};
  }

  absl::Status ReadFile(const Token& token) const {
    std::vector<std::string> values = token.values;
    if (token.inline_value) values.insert(values.begin(), *token.inline_value);
    if (values.empty()) return absl::InvalidArgumentError("--config needs a file");
    if (values.size() > 1) return absl::InvalidArgumentError(Stray(values[1]));
    return MergeConfigFile(schema_, ResolveUserPath(values[0]), config_);
  }

  // The field that a flag means. `negated` is set for --no_NAME and --noNAME of a boolean.
  const ConfigField* FindField(const Token& token, bool* negated) const {
    *negated = false;
    if (const ConfigField* field = schema_.Find(token.name)) return field;
    for (std::string_view no : {"no_", "no"}) {
      if (!absl::StartsWith(token.name, no)) continue;
      const ConfigField* field = schema_.Find(std::string_view(token.name).substr(no.size()));
      if (field != nullptr && field->is_bool()) {
        *negated = true;
        return field;
      }
    }
    return nullptr;
  }

  void Apply(const Token& token) {
    bool negated;
    const ConfigField* field = FindField(token, &negated);
    if (field == nullptr) {
      unknown_.push_back(absl::StrCat(token.typed, DidYouMean(token.name, schema_.Names(), "--")));
      return;
    }
    const auto [first, is_new] = typed_.insert({field->name(), token.typed});
    if (!is_new && !field->repeated()) {
      problems_.push_back(
          first->second == token.typed
              ? absl::StrCat(token.typed, " is given twice")
              : absl::StrCat(first->second, " and ", token.typed, " are one flag, given twice"));
      return;
    }
    Message* parent = field->MutableParent(config_);
    if (is_new && field->repeated()) {
      parent->GetReflection()->ClearField(parent, field->field());
    }
    if (field->is_bool()) {
      ApplyBool(token, *field, negated, parent);
    } else {
      ApplyValues(token, *field, parent);
    }
  }

  void ApplyBool(const Token& token, const ConfigField& field, bool negated, Message* parent) {
    std::vector<std::string> strays = token.values;
    std::string text = negated ? "false" : "true";
    bool ignored;
    if (negated && token.inline_value) {
      problems_.push_back(absl::StrCat(token.typed, " takes no value"));
      return;
    }
    if (token.inline_value) {
      text = *token.inline_value;
    } else if (!negated && !strays.empty() && ParseBool(strays[0], &ignored)) {
      text = strays[0];
      strays.erase(strays.begin());
    }
    Set(token, field, text, parent);
    ReportStrays(token, strays);
  }

  void ApplyValues(const Token& token, const ConfigField& field, Message* parent) {
    std::vector<std::string> values = token.values;
    if (token.inline_value) values.insert(values.begin(), *token.inline_value);
    if (values.empty()) {
      problems_.push_back(field.spec().not_implemented().empty()
                              ? absl::StrCat(token.typed, " needs a value: ", ExpectedText(field))
                              : absl::StrCat(token.typed, " is not implemented in this version: ",
                                             field.spec().not_implemented()));
      return;
    }
    const size_t used = field.repeated() ? values.size() : 1;
    for (size_t i = 0; i < used; ++i) {
      if (!Set(token, field, values[i], parent)) return;
    }
    ReportStrays(token, {values.begin() + used, values.end()});
  }

  bool Set(const Token& token, const ConfigField& field, const std::string& text, Message* parent) {
    const absl::Status set = SetFromText(field, text, parent);
    if (set.ok()) return true;
    const bool is_sentence = absl::StartsWith(set.message(), "is not implemented");
    problems_.push_back(
        absl::StrCat(token.typed, is_sentence ? " " : ": ", std::string_view(set.message())));
    return false;
  }

  void ReportStrays(const Token& token, const std::vector<std::string>& strays) {
    for (const std::string& stray : strays) {
      problems_.push_back(absl::StrCat(Stray(stray), " after ", token.typed));
    }
  }

  void ResolvePaths() {
    for (const ConfigField& field : schema_.fields()) {
      if (!field.spec().path()) continue;
      Message* parent = field.MutableParent(config_);
      if (!HasValue(field, *parent)) continue;
      const Reflection* reflection = parent->GetReflection();
      const std::set<std::string> words(field.spec().path_words().begin(),
                                        field.spec().path_words().end());
      if (!field.repeated()) {
        const std::string path = reflection->GetString(*parent, field.field());
        const std::string resolved = words.contains(path) ? path : ResolveUserPath(path);
        if (resolved != path) reflection->SetString(parent, field.field(), resolved);
        continue;
      }
      for (int i = 0; i < reflection->FieldSize(*parent, field.field()); ++i) {
        const std::string path = reflection->GetRepeatedString(*parent, field.field(), i);
        if (!words.contains(path)) {
          reflection->SetRepeatedString(parent, field.field(), i, ResolveUserPath(path));
        }
      }
    }
  }

  const ConfigSchema& schema_;
  const FlagsOptions& options_;
  Message* const config_;
  std::vector<Token> tokens_;
  std::map<std::string, std::string> typed_;  // field name to how it was typed first
  std::vector<std::string> unknown_;
  std::vector<std::string> problems_;
};

}  // namespace

absl::StatusOr<ParsedFlags> ParseFlags(int argc, const char* const* argv,
                                       const FlagsOptions& options, Message* config) {
  ABSL_ASSIGN_OR_RETURN(const ConfigSchema schema, ConfigSchema::Create(config->GetDescriptor()));
  FlagParser parser(schema, options, config);
  absl::StatusOr<ParsedFlags> parsed =
      parser.Parse(absl::MakeConstSpan(argv, argc).subspan(argc > 0 ? 1 : 0));
  if (!parsed.ok()) return OneLine(parsed.status());
  return parsed;
}

}  // namespace lathe
