#include "lathe/base/config/field_value.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "absl/status/status_macros.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "google/protobuf/reflection.h"
#include "lathe/base/config/did_you_mean.h"
#include "lathe/base/python_json.h"
#include "lathe/base/strict_json.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

template <typename... Parts>
absl::Status Wrong(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

// Texts come from users and files: a message shows at most this much of one.
std::string Quoted(std::string_view text) {
  constexpr size_t kMost = 60;
  if (text.size() > kMost) return absl::StrCat("'", text.substr(0, kMost), "...'");
  return absl::StrCat("'", text, "'");
}

// absl's number parsers also take surrounding blanks and hexadecimal notation.
bool HasOddCharacters(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return absl::ascii_isspace(c) || c == 'x' || c == 'X'; });
}

absl::Status ParseNumber(std::string_view text, double* value) {
  if (HasOddCharacters(text) || !absl::SimpleAtod(text, value)) {
    return Wrong("expected a number, got ", Quoted(text));
  }
  if (!std::isfinite(*value)) return Wrong("expected a finite number, got ", Quoted(text));
  return absl::OkStatus();
}

absl::Status ParseInteger(std::string_view text, int64_t low, int64_t high, int64_t* value) {
  double number;
  if (HasOddCharacters(text)) return Wrong("expected an integer, got ", Quoted(text));
  if (absl::SimpleAtoi(text, value)) {
    if (*value < low || *value > high) {
      return Wrong("expected an integer from ", low, " to ", high, ", got ", text);
    }
    return absl::OkStatus();
  }
  // 2e8, as large counts are often written. Beyond 2^53 a double no longer says which integer is
  // meant.
  if (!absl::SimpleAtod(text, &number) || std::trunc(number) != number) {
    return Wrong("expected an integer, got ", Quoted(text));
  }
  if (!(std::abs(number) <= 0x1p53) || number < static_cast<double>(low) ||
      number > static_cast<double>(high)) {
    return Wrong("expected an integer from ", low, " to ", high, ", got ", Quoted(text));
  }
  *value = static_cast<int64_t>(number);
  return absl::OkStatus();
}

absl::Status CompactJson(std::string_view text, std::string* compact) {
  const absl::StatusOr<nlohmann::ordered_json> value = ParseStrictJson(text, "JSON");
  if (!value.ok() || !value->is_object()) {
    return Wrong("expected a JSON object, got ", Quoted(text.substr(0, 200)),
                 value.ok() ? "" : absl::StrCat(" (", value.status().message(), ")"));
  }
  *compact = DumpPythonJson(*value, -1);
  return absl::OkStatus();
}

bool OneOf(const google::protobuf::RepeatedPtrField<std::string>& words, std::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

absl::Status CheckChoice(const FlagSpec& spec, const std::string& value) {
  if (spec.choices_size() == 0 || OneOf(spec.choices(), value)) return absl::OkStatus();
  const std::vector<std::string> choices(spec.choices().begin(), spec.choices().end());
  if (OneOf(spec.absent_choices(), value)) {
    return Wrong("'", value, "' is not implemented in this version; choose one of ",
                 absl::StrJoin(choices, ", "));
  }
  return Wrong("expected one of ", absl::StrJoin(choices, ", "), "; got ", Quoted(value),
               DidYouMean(value, choices));
}

absl::Status CheckNumber(const FlagSpec& spec, double value) {
  // Whole numbers without ".0", as bounds of integers read better.
  const auto text = [](double number) {
    return number == std::trunc(number) && std::abs(number) < 1e15
               ? absl::StrCat(static_cast<int64_t>(number))
               : PythonFloat(number);
  };
  if (!std::isfinite(value)) return Wrong("expected a finite number, got ", PythonFloat(value));
  if (spec.has_min() && !(value >= spec.min())) {
    return Wrong("expected at least ", text(spec.min()), ", got ", text(value));
  }
  if (spec.has_max() && !(value <= spec.max())) {
    return Wrong("expected at most ", text(spec.max()), ", got ", text(value));
  }
  if (spec.has_below() && !(value < spec.below())) {
    return Wrong("expected less than ", text(spec.below()), ", got ", text(value));
  }
  if (spec.ratio() && value > 1 && value != std::trunc(value)) {
    return Wrong("expected a whole number of steps, or a share of all steps below 1; got ",
                 text(value));
  }
  return absl::OkStatus();
}

// The elements of a list, or the one value, as text.
std::vector<std::string> ValueTexts(const ConfigField& field, const Message& parent) {
  const FieldDescriptor* f = field.field();
  const Reflection* r = parent.GetReflection();
  const int count = f->is_repeated() ? r->FieldSize(parent, f) : 1;
  std::vector<std::string> texts;
  for (int i = 0; i < count; ++i) {
    switch (f->cpp_type()) {
      case FieldDescriptor::CPPTYPE_BOOL:
        texts.push_back(r->GetBool(parent, f) ? "true" : "false");
        break;
      case FieldDescriptor::CPPTYPE_INT32:
        texts.push_back(absl::StrCat(f->is_repeated() ? r->GetRepeatedInt32(parent, f, i)
                                                      : r->GetInt32(parent, f)));
        break;
      case FieldDescriptor::CPPTYPE_INT64:
        texts.push_back(absl::StrCat(f->is_repeated() ? r->GetRepeatedInt64(parent, f, i)
                                                      : r->GetInt64(parent, f)));
        break;
      case FieldDescriptor::CPPTYPE_DOUBLE: {
        const double value =
            f->is_repeated() ? r->GetRepeatedDouble(parent, f, i) : r->GetDouble(parent, f);
        const bool whole_steps = field.spec().ratio() && value == std::trunc(value);
        texts.push_back(whole_steps ? absl::StrCat(static_cast<int64_t>(value))
                                    : PythonFloat(value));
        break;
      }
      default:
        texts.push_back(f->is_repeated() ? r->GetRepeatedString(parent, f, i)
                                         : r->GetString(parent, f));
    }
  }
  return texts;
}

absl::Status CheckNotImplemented(const ConfigField& field, const Message& parent) {
  if (!IsChanged(field, parent)) return absl::OkStatus();
  for (const std::string& text : ValueTexts(field, parent)) {
    if (!OneOf(field.spec().neutral(), text)) {
      return Wrong(Quoted(text),
                   " is not implemented in this version: ", field.spec().not_implemented());
    }
  }
  return absl::OkStatus();
}

absl::Status SetString(const ConfigField& field, std::string_view text, Message* parent) {
  const FieldDescriptor* f = field.field();
  const Reflection* r = parent->GetReflection();
  if (!f->is_repeated()) {
    r->SetString(parent, f, std::string(text));
    return absl::OkStatus();
  }
  if (field.spec().comma_list() && absl::StrContains(text, ',')) {
    for (std::string_view part : absl::StrSplit(text, ',')) {
      if (part.empty()) return Wrong("has an empty element in ", Quoted(text));
      r->AddString(parent, f, std::string(part));
    }
    return absl::OkStatus();
  }
  r->AddString(parent, f, std::string(text));
  return absl::OkStatus();
}

absl::Status SetUnchecked(const ConfigField& field, std::string_view text, Message* parent) {
  const FieldDescriptor* f = field.field();
  const Reflection* r = parent->GetReflection();
  int64_t integer;
  double number;
  bool truth;
  switch (f->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      if (!ParseBool(text, &truth)) return Wrong("expected true or false, got ", Quoted(text));
      r->SetBool(parent, f, truth);
      return absl::OkStatus();
    case FieldDescriptor::CPPTYPE_INT32: {
      using Limits = std::numeric_limits<int32_t>;
      ABSL_RETURN_IF_ERROR(ParseInteger(text, Limits::min(), Limits::max(), &integer));
      const int32_t value = static_cast<int32_t>(integer);
      f->is_repeated() ? r->AddInt32(parent, f, value) : r->SetInt32(parent, f, value);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_INT64: {
      using Limits = std::numeric_limits<int64_t>;
      ABSL_RETURN_IF_ERROR(ParseInteger(text, Limits::min(), Limits::max(), &integer));
      f->is_repeated() ? r->AddInt64(parent, f, integer) : r->SetInt64(parent, f, integer);
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_DOUBLE:
      ABSL_RETURN_IF_ERROR(ParseNumber(text, &number));
      f->is_repeated() ? r->AddDouble(parent, f, number) : r->SetDouble(parent, f, number);
      return absl::OkStatus();
    default:
      return SetString(field, text, parent);
  }
}

}  // namespace

bool ParseBool(std::string_view text, bool* value) {
  const std::string word = absl::AsciiStrToLower(text);
  for (std::string_view yes : {"true", "yes", "t", "y", "1"}) {
    if (word == yes) return *value = true, true;
  }
  for (std::string_view no : {"false", "no", "f", "n", "0"}) {
    if (word == no) return *value = false, true;
  }
  return false;
}

absl::Status SetFromText(const ConfigField& field, std::string_view text, Message* parent) {
  const absl::Status set = SetUnchecked(field, text, parent);
  if (!set.ok() && !field.spec().not_implemented().empty()) {
    return Wrong("is not implemented in this version: ", field.spec().not_implemented());
  }
  ABSL_RETURN_IF_ERROR(set);
  return CheckValue(field, parent);
}

absl::Status CheckValue(const ConfigField& field, Message* parent) {
  const FieldDescriptor* f = field.field();
  const FlagSpec& spec = field.spec();
  const Reflection* r = parent->GetReflection();
  if (spec.json() && r->HasField(*parent, f)) {
    std::string compact;
    const absl::Status parsed = CompactJson(r->GetString(*parent, f), &compact);
    if (parsed.ok()) r->SetString(parent, f, compact);
    if (!parsed.ok() && spec.not_implemented().empty()) return parsed;
  }
  if (!spec.not_implemented().empty()) return CheckNotImplemented(field, *parent);
  const int count = f->is_repeated() ? r->FieldSize(*parent, f) : 1;
  for (int i = 0; i < count; ++i) {
    switch (f->cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32:
        ABSL_RETURN_IF_ERROR(CheckNumber(
            spec, f->is_repeated() ? r->GetRepeatedInt32(*parent, f, i) : r->GetInt32(*parent, f)));
        break;
      case FieldDescriptor::CPPTYPE_INT64:
        ABSL_RETURN_IF_ERROR(CheckNumber(
            spec, static_cast<double>(f->is_repeated() ? r->GetRepeatedInt64(*parent, f, i)
                                                       : r->GetInt64(*parent, f))));
        break;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        ABSL_RETURN_IF_ERROR(CheckNumber(spec, f->is_repeated()
                                                   ? r->GetRepeatedDouble(*parent, f, i)
                                                   : r->GetDouble(*parent, f)));
        break;
      case FieldDescriptor::CPPTYPE_STRING:
        ABSL_RETURN_IF_ERROR(CheckChoice(spec, f->is_repeated()
                                                   ? r->GetRepeatedString(*parent, f, i)
                                                   : r->GetString(*parent, f)));
        break;
      default:
        break;
    }
  }
  return absl::OkStatus();
}

std::string ValueText(const ConfigField& field, const Message& parent) {
  if (!HasValue(field, parent)) return "";
  return absl::StrJoin(ValueTexts(field, parent), " ");
}

bool HasValue(const ConfigField& field, const Message& parent) {
  const FieldDescriptor* f = field.field();
  if (f->is_repeated()) return parent.GetReflection()->FieldSize(parent, f) > 0;
  return f->has_default_value() || parent.GetReflection()->HasField(parent, f);
}

bool IsChanged(const ConfigField& field, const Message& parent) {
  const FieldDescriptor* f = field.field();
  if (f->is_repeated()) return HasValue(field, parent);
  if (!parent.GetReflection()->HasField(parent, f)) return false;
  if (!f->has_default_value()) return true;
  const Message* empty =
      google::protobuf::MessageFactory::generated_factory()->GetPrototype(parent.GetDescriptor());
  return ValueTexts(field, parent) != ValueTexts(field, *empty);
}

std::string ExpectedText(const ConfigField& field) {
  const FlagSpec& spec = field.spec();
  if (spec.choices_size() > 0) return absl::StrCat("one of ", absl::StrJoin(spec.choices(), ", "));
  switch (field.field()->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    case FieldDescriptor::CPPTYPE_INT32:
    case FieldDescriptor::CPPTYPE_INT64:
      return "an integer";
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return "a number";
    default:
      return spec.json() ? "a JSON object" : spec.path() ? "a path" : "text";
  }
}

absl::Status OneLine(const absl::Status& status) {
  std::string message(status.message());
  std::replace_if(
      message.begin(), message.end(), [](char c) { return absl::ascii_iscntrl(c); }, ' ');
  return absl::Status(status.code(), message);
}

}  // namespace lathe
