#include "lathe/base/config/json.h"

#include <cmath>
#include <memory>
#include <set>
#include <utility>

#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "lathe/base/config/did_you_mean.h"
#include "lathe/base/config/field_value.h"
#include "lathe/base/python_json.h"
#include "lathe/base/strict_json.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using nlohmann::ordered_json;

std::string Shown(const ordered_json& value) {
  constexpr size_t kMost = 60;
  std::string text = value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  if (text.size() > kMost) text = absl::StrCat(text.substr(0, kMost), "...");
  return text;
}

// Walks one JSON object and the message that it belongs to, together.
class Merger {
 public:
  Merger(const ConfigSchema& schema, std::string_view source, Message* root)
      : schema_(schema), source_(source), root_(root) {}

  absl::Status MergeObject(const ordered_json& object, const std::string& path,
                           const Descriptor* message) {
    for (auto it = object.begin(); it != object.end(); ++it) {
      const std::string key_path = absl::StrCat(path, it.key());
      const FieldDescriptor* group = message->FindFieldByName(it.key());
      if (group != nullptr && group->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        if (it.value().is_null()) continue;
        if (!it.value().is_object()) {
          return Wrong(key_path, absl::StrCat("expected an object, got ", Shown(it.value())));
        }
        ABSL_RETURN_IF_ERROR(
            MergeObject(it.value(), absl::StrCat(key_path, "."), group->message_type()));
        continue;
      }
      const ConfigField* field = schema_.Find(it.key());
      // What stands in an inner group may be given without it.
      if (field == nullptr || !field->IsWithin(message)) {
        unknown_.push_back(absl::StrCat(key_path, DidYouMean(it.key(), NamesIn(message))));
        continue;
      }
      if (!given_.insert(field->path()).second) {
        return Wrong(key_path, absl::StrCat("is given twice (it is ", field->path(), ")"));
      }
      const absl::Status merged = MergeField(it.value(), *field);
      if (!merged.ok()) return Wrong(key_path, merged.message());
    }
    return absl::OkStatus();
  }

  absl::Status UnknownKeys() const {
    if (unknown_.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        source_, ": unknown key", unknown_.size() > 1 ? "s " : " ", absl::StrJoin(unknown_, ", ")));
  }

 private:
  absl::Status Wrong(std::string_view key_path, std::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat(source_, ": ", key_path, ": ", what));
  }

  std::vector<std::string> NamesIn(const Descriptor* message) const {
    std::vector<std::string> names;
    for (const ConfigField& field : schema_.fields()) {
      if (!field.IsWithin(message)) continue;
      names.push_back(field.name());
      for (const std::string& alias : field.spec().alias()) names.push_back(alias);
    }
    for (int i = 0; i < message->field_count(); ++i) {
      if (message->field(i)->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        names.push_back(std::string(message->field(i)->name()));
      }
    }
    return names;
  }

  absl::Status MergeField(const ordered_json& value, const ConfigField& field) {
    Message* parent = field.MutableParent(root_);
    const Reflection* reflection = parent->GetReflection();
    reflection->ClearField(parent, field.field());
    if (value.is_null()) return absl::OkStatus();
    if (!field.repeated() || !value.is_array()) return SetElement(value, field, parent);
    for (const ordered_json& element : value) {
      ABSL_RETURN_IF_ERROR(SetElement(element, field, parent));
    }
    return absl::OkStatus();
  }

  absl::Status SetElement(const ordered_json& value, const ConfigField& field, Message* parent) {
    std::string text;
    bool fits = false;
    switch (field.field()->cpp_type()) {
      case FieldDescriptor::CPPTYPE_BOOL:
        fits = value.is_boolean();
        if (fits) text = value.get<bool>() ? "true" : "false";
        break;
      case FieldDescriptor::CPPTYPE_STRING:
        if (value.is_string()) {
          fits = true;
          text = value.get<std::string>();
        } else if (field.spec().json()) {
          fits = value.is_object();
          text = DumpPythonJson(value, -1);
        } else if (value.is_boolean() && field.spec().path_words_size() > 0) {
          fits = true;
          text = value.get<bool>() ? "true" : "false";
        }
        break;
      default:
        fits = value.is_number();
        if (fits) text = value.is_number_float() ? PythonFloat(value.get<double>()) : value.dump();
    }
    if (!fits && !field.spec().not_implemented().empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("is not implemented in this version: ", field.spec().not_implemented()));
    }
    if (!fits) {
      return absl::InvalidArgumentError(
          absl::StrCat("expected ", ExpectedText(field), ", got ", Shown(value)));
    }
    return SetFromText(field, text, parent);
  }

  const ConfigSchema& schema_;
  const std::string_view source_;
  Message* const root_;
  std::set<std::string> given_;
  std::vector<std::string> unknown_;
};

ordered_json ElementToJson(const ConfigField& field, const Message& parent, int i) {
  const FieldDescriptor* f = field.field();
  const Reflection* r = parent.GetReflection();
  const bool list = f->is_repeated();
  switch (f->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return r->GetBool(parent, f);
    case FieldDescriptor::CPPTYPE_INT32:
      return list ? r->GetRepeatedInt32(parent, f, i) : r->GetInt32(parent, f);
    case FieldDescriptor::CPPTYPE_INT64:
      return list ? r->GetRepeatedInt64(parent, f, i) : r->GetInt64(parent, f);
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      const double value = list ? r->GetRepeatedDouble(parent, f, i) : r->GetDouble(parent, f);
      if (field.spec().ratio() && value == std::trunc(value)) return static_cast<int64_t>(value);
      return value;
    }
    default: {
      const std::string text = list ? r->GetRepeatedString(parent, f, i) : r->GetString(parent, f);
      if (field.spec().json()) return ordered_json::parse(text, nullptr, false);
      return text;
    }
  }
}

}  // namespace

absl::Status MergeJson(const ConfigSchema& schema, std::string_view text, std::string_view source,
                       Message* config) {
  ABSL_ASSIGN_OR_RETURN(const ordered_json json, ParseStrictJson(text, source));
  if (!json.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": expected a JSON object, got ", Shown(json)));
  }
  Merger merger(schema, source, config);
  const absl::Status merged = merger.MergeObject(json, "", schema.root());
  return OneLine(merged.ok() ? merger.UnknownKeys() : merged);
}

std::string ToJson(const ConfigSchema& schema, const Message& config) {
  ordered_json json = ordered_json::object();
  for (const ConfigField& field : schema.fields()) {
    const Message& parent = field.Parent(config);
    if (!HasValue(field, parent)) continue;
    if (!field.spec().not_implemented().empty() && !IsChanged(field, parent)) continue;
    ordered_json* object = &json;
    for (const FieldDescriptor* group : field.groups()) {
      if (IsFolded(*group)) continue;
      object = &(*object)[std::string(group->name())];
    }
    ordered_json& value = (*object)[field.name()];
    if (!field.repeated()) {
      value = ElementToJson(field, parent, 0);
      continue;
    }
    value = ordered_json::array();
    for (int i = 0; i < parent.GetReflection()->FieldSize(parent, field.field()); ++i) {
      value.push_back(ElementToJson(field, parent, i));
    }
  }
  return DumpPythonJson(json, 2);
}

std::vector<std::string> DescribeChanges(const ConfigSchema& schema, const Message& config) {
  const std::unique_ptr<Message> empty(config.New());
  std::vector<std::string> changes;
  for (const ConfigField& field : schema.fields()) {
    const Message& parent = field.Parent(config);
    if (!IsChanged(field, parent)) continue;
    const std::string before = ValueText(field, field.Parent(*empty));
    changes.push_back(absl::StrCat(field.path(), " = ", ValueText(field, parent), " (default ",
                                   before.empty() ? "none" : before, ")"));
  }
  return changes;
}

}  // namespace lathe
