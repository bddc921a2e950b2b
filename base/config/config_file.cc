#include "lathe/base/config/config_file.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>

#include "absl/status/status_macros.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/text_format.h"
#include "lathe/base/config/did_you_mean.h"
#include "lathe/base/config/field_value.h"
#include "lathe/base/config/json.h"

namespace lathe {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// Larger than any configuration: somebody has named the wrong file.
constexpr off_t kMostBytes = off_t{16} << 20;

absl::StatusOr<std::string> ReadConfig(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) {
    return absl::NotFoundError(
        absl::StrCat("--config: cannot read ", path, ": ", std::strerror(errno)));
  }
  if (!S_ISREG(status.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat("--config: ", path, " is not a file"));
  }
  if (status.st_size > kMostBytes) {
    return absl::InvalidArgumentError(absl::StrCat("--config: ", path, " has ", status.st_size,
                                                   " bytes, more than any configuration"));
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return absl::NotFoundError(
        absl::StrCat("--config: cannot read ", path, ": ", std::strerror(errno)));
  }
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

// Keeps the first error, as "line:column: what".
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  void RecordError(int line, google::protobuf::io::ColumnNumber column,
                   absl::string_view message) override {
    if (text_.empty()) text_ = absl::StrCat(line + 1, ":", column + 1, ": ", message);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// protobuf says `Message type "lathe.RunConfig" has no field named "x".`
std::string Suggestion(const ConfigSchema& schema, std::string_view error) {
  constexpr std::string_view kNoField = "has no field named \"";
  const size_t at = error.find(kNoField);
  if (at == std::string_view::npos) return "";
  std::string_view name = error.substr(at + kNoField.size());
  name = name.substr(0, name.find('"'));
  if (const ConfigField* field = schema.Find(name)) {
    return absl::StrCat(" It is called ", field->path(), ": write it inside its group.");
  }
  return DidYouMean(name, schema.Names());
}

}  // namespace

absl::Status MergeTextproto(const ConfigSchema& schema, std::string_view text,
                            std::string_view source, Message* config) {
  const std::unique_ptr<Message> parsed(config->New());
  FirstError error;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  if (!parser.ParseFromString(text, parsed.get())) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ":", error.text(), Suggestion(schema, error.text())));
  }
  for (const ConfigField& field : schema.fields()) {
    Message* parent = field.MutableParent(parsed.get());
    const Reflection* reflection = parent->GetReflection();
    const bool given = field.repeated() ? reflection->FieldSize(*parent, field.field()) > 0
                                        : reflection->HasField(*parent, field.field());
    if (!given) continue;
    const absl::Status checked = CheckValue(field, parent);
    if (!checked.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(source, ": ", field.path(), ": ", checked.message()));
    }
    if (field.repeated()) {
      Message* target = field.MutableParent(config);
      target->GetReflection()->ClearField(target, field.field());
    }
  }
  config->MergeFrom(*parsed);
  return absl::OkStatus();
}

absl::Status MergeConfigFile(const ConfigSchema& schema, const std::string& path, Message* config) {
  ABSL_ASSIGN_OR_RETURN(const std::string text, ReadConfig(path));
  const bool named_textproto = absl::EndsWith(path, ".textproto") ||
                               absl::EndsWith(path, ".txtpb") || absl::EndsWith(path, ".pbtxt");
  const bool is_json =
      absl::EndsWith(path, ".json") ||
      (!named_textproto && absl::StartsWith(absl::StripLeadingAsciiWhitespace(text), "{"));
  return is_json ? MergeJson(schema, text, path, config)
                 : MergeTextproto(schema, text, path, config);
}

}  // namespace lathe
