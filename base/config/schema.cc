#include "lathe/base/config/schema.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace lathe {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// Names that ParseFlags takes for itself.
constexpr std::string_view kReservedNames[] = {"help", "explain", "config"};

absl::Status Broken(const FieldDescriptor& field, std::string_view what) {
  return absl::FailedPreconditionError(absl::StrCat(field.full_name(), " ", what));
}

absl::Status CheckLeaf(const FieldDescriptor& field) {
  const FlagSpec& spec = field.options().GetExtension(flag);
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      if (field.is_repeated()) return Broken(field, "is a list of bools");
      break;
    case FieldDescriptor::CPPTYPE_INT32:
    case FieldDescriptor::CPPTYPE_INT64:
    case FieldDescriptor::CPPTYPE_DOUBLE:
    case FieldDescriptor::CPPTYPE_STRING:
      break;
    default:
      return Broken(field, "is none of bool, int32, int64, double, string, message");
  }
  const bool is_string = field.cpp_type() == FieldDescriptor::CPPTYPE_STRING;
  if (spec.help().empty()) return Broken(field, "has no (lathe.flag).help");
  if (spec.ratio() && field.cpp_type() != FieldDescriptor::CPPTYPE_DOUBLE) {
    return Broken(field, "is a ratio but no double");
  }
  if ((spec.json() || spec.path() || spec.choices_size() > 0) && !is_string) {
    return Broken(field, "has json, path or choices but is no string");
  }
  if (spec.comma_list() && !field.is_repeated()) return Broken(field, "is comma_list but no list");
  return absl::OkStatus();
}

}  // namespace

bool IsFolded(const FieldDescriptor& group) {
  return group.message_type()->options().GetExtension(lathe::group).folded();
}

std::string ConfigField::path() const {
  std::string path;
  for (const FieldDescriptor* group : groups_) {
    if (!IsFolded(*group)) absl::StrAppend(&path, group->name(), ".");
  }
  return absl::StrCat(path, field_->name());
}

bool ConfigField::IsWithin(const Descriptor* message) const {
  return field_->containing_type() == message ||
         std::any_of(groups_.begin(), groups_.end(), [message](const FieldDescriptor* group) {
           return group->containing_type() == message;
         });
}

const FieldDescriptor* ConfigField::shown_group() const {
  const auto shown = std::find_if(groups_.rbegin(), groups_.rend(),
                                  [](const FieldDescriptor* group) { return !IsFolded(*group); });
  return shown == groups_.rend() ? nullptr : *shown;
}

Message* ConfigField::MutableParent(Message* root) const {
  Message* parent = root;
  for (const FieldDescriptor* group : groups_) {
    parent = parent->GetReflection()->MutableMessage(parent, group);
  }
  return parent;
}

const Message& ConfigField::Parent(const Message& root) const {
  const Message* parent = &root;
  for (const FieldDescriptor* group : groups_) {
    parent = &parent->GetReflection()->GetMessage(*parent, group);
  }
  return *parent;
}

absl::StatusOr<ConfigSchema> ConfigSchema::Create(const Descriptor* root) {
  ConfigSchema schema(root);
  ABSL_RETURN_IF_ERROR(schema.AddGroup(root, {}));
  return schema;
}

absl::Status ConfigSchema::AddGroup(const Descriptor* message,
                                    std::vector<const FieldDescriptor*> groups) {
  for (int i = 0; i < message->field_count(); ++i) {
    const FieldDescriptor* field = message->field(i);
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      if (field->is_repeated()) return Broken(*field, "is a list of messages");
      std::vector<const FieldDescriptor*> inner = groups;
      inner.push_back(field);
      ABSL_RETURN_IF_ERROR(AddName(std::string(field->name()), -1));
      ABSL_RETURN_IF_ERROR(AddGroup(field->message_type(), std::move(inner)));
      continue;
    }
    ABSL_RETURN_IF_ERROR(CheckLeaf(*field));
    const int index = static_cast<int>(fields_.size());
    fields_.emplace_back(groups, field);
    ABSL_RETURN_IF_ERROR(AddName(std::string(field->name()), index));
    for (const std::string& alias : fields_.back().spec().alias()) {
      ABSL_RETURN_IF_ERROR(AddName(alias, index));
    }
  }
  return absl::OkStatus();
}

absl::Status ConfigSchema::AddName(const std::string& name, int index) {
  for (std::string_view reserved : kReservedNames) {
    if (name == reserved) {
      return absl::FailedPreconditionError(
          absl::StrCat(root_->full_name(), ": '", name, "' is reserved for --", name));
    }
  }
  if (!index_by_name_.insert({name, index}).second) {
    return absl::FailedPreconditionError(
        absl::StrCat(root_->full_name(), ": two fields or groups are called '", name, "'"));
  }
  return absl::OkStatus();
}

const ConfigField* ConfigSchema::Find(std::string_view name) const {
  const auto found = index_by_name_.find(absl::StrReplaceAll(name, {{"-", "_"}}));
  if (found == index_by_name_.end() || found->second < 0) return nullptr;
  return &fields_[found->second];
}

std::vector<std::string> ConfigSchema::Names() const {
  std::vector<std::string> names;
  for (const ConfigField& field : fields_) {
    names.push_back(field.name());
    for (const std::string& alias : field.spec().alias()) names.push_back(alias);
  }
  return names;
}

std::string GroupTitle(const FieldDescriptor& group) {
  const GroupSpec& spec = group.message_type()->options().GetExtension(lathe::group);
  return spec.title().empty() ? std::string(group.name()) : spec.title();
}

}  // namespace lathe
