#ifndef LATHE_BASE_CONFIG_SCHEMA_H_
#define LATHE_BASE_CONFIG_SCHEMA_H_

// A run's configuration message read as a flat list of named fields.
//
//   ConfigSchema schema = *ConfigSchema::Create(RunConfig::descriptor());
//   const ConfigField* field = schema.Find("learning-rate");     // training.learning_rate
//   field->path();                                                // "training.learning_rate"
//   google::protobuf::Message* group = field->MutableParent(&run_config);
//
// The root message's sub-messages are groups (and may have groups in turn); every other field is a
// leaf, known by its own name wherever it stands. See options.proto for the rules.
//
// Immutable after Create; use from any thread.

#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "lathe/base/config/options.pb.h"

namespace lathe {

// One leaf field and where it stands.
class ConfigField {
 public:
  ConfigField(std::vector<const google::protobuf::FieldDescriptor*> groups,
              const google::protobuf::FieldDescriptor* field)
      : groups_(std::move(groups)), field_(field) {}

  const google::protobuf::FieldDescriptor* field() const { return field_; }
  std::string name() const { return std::string(field_->name()); }
  const FlagSpec& spec() const { return field_->options().GetExtension(flag); }
  bool is_bool() const {
    return field_->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_BOOL;
  }
  bool repeated() const { return field_->is_repeated(); }

  // The fields of the messages around this one, outermost first.
  const std::vector<const google::protobuf::FieldDescriptor*>& groups() const { return groups_; }

  // "training.learning_rate": how a JSON file writes it, without folded groups.
  std::string path() const;

  // Whether the field stands in a message of this type, directly or in a group within.
  bool IsWithin(const google::protobuf::Descriptor* message) const;

  // The innermost group that is one to the user (not folded); nullptr for the root.
  const google::protobuf::FieldDescriptor* shown_group() const;

  // The message in `root` that holds this field.
  google::protobuf::Message* MutableParent(google::protobuf::Message* root) const;
  const google::protobuf::Message& Parent(const google::protobuf::Message& root) const;

 private:
  std::vector<const google::protobuf::FieldDescriptor*> groups_;
  const google::protobuf::FieldDescriptor* field_;
};

class ConfigSchema {
 public:
  // Errors: FailedPrecondition, naming the message and field, when the message breaks a rule of
  // options.proto. That is a programmer's error that each run's test rules out.
  static absl::StatusOr<ConfigSchema> Create(const google::protobuf::Descriptor* root);

  // In order of declaration.
  const std::vector<ConfigField>& fields() const { return fields_; }

  // The field of this name or alias, with '-' and '_' alike; nullptr when there is none.
  const ConfigField* Find(std::string_view name) const;

  // All names that Find knows, aliases included, for suggestions.
  std::vector<std::string> Names() const;

  const google::protobuf::Descriptor* root() const { return root_; }

 private:
  explicit ConfigSchema(const google::protobuf::Descriptor* root) : root_(root) {}
  absl::Status AddGroup(const google::protobuf::Descriptor* message,
                        std::vector<const google::protobuf::FieldDescriptor*> groups);
  absl::Status AddName(const std::string& name, int index);

  const google::protobuf::Descriptor* root_;
  std::vector<ConfigField> fields_;
  absl::flat_hash_map<std::string, int> index_by_name_;
};

// Whether a group is folded into the one around it.
bool IsFolded(const google::protobuf::FieldDescriptor& group);

// The heading of a group: its message's title, or its field's name.
std::string GroupTitle(const google::protobuf::FieldDescriptor& group);

}  // namespace lathe

#endif  // LATHE_BASE_CONFIG_SCHEMA_H_
