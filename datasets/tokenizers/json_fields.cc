#include "lathe/datasets/tokenizers/json_fields.h"

#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"

namespace lathe {
namespace {

std::string FieldPath(std::string_view path, std::string_view name) {
  return path.empty() ? std::string(name) : absl::StrCat(path, ".", name);
}

using TypeTest = bool (nlohmann::json::*)() const noexcept;

absl::StatusOr<const nlohmann::json*> TypedField(const nlohmann::json& object,
                                                 std::string_view path, std::string_view name,
                                                 TypeTest test, std::string_view expected) {
  if (!object.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path.empty() ? "the file" : path, " is ",
                                                   Abbreviate(object), "; expected an object"));
  }
  const auto it = object.find(name);
  if (it == object.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat(FieldPath(path, name), " is missing; expected ", expected));
  }
  if (!(*it.*test)()) {
    return absl::InvalidArgumentError(
        absl::StrCat(FieldPath(path, name), " is ", Abbreviate(*it), "; expected ", expected));
  }
  return &*it;
}

}  // namespace

absl::StatusOr<std::string> StringField(const nlohmann::json& object, std::string_view path,
                                        std::string_view name) {
  ABSL_ASSIGN_OR_RETURN(const nlohmann::json* value,
                        TypedField(object, path, name, &nlohmann::json::is_string, "a string"));
  return value->get<std::string>();
}

absl::StatusOr<const nlohmann::json*> ObjectField(const nlohmann::json& object,
                                                  std::string_view path, std::string_view name) {
  return TypedField(object, path, name, &nlohmann::json::is_object, "an object");
}

absl::StatusOr<const nlohmann::json*> ArrayField(const nlohmann::json& object,
                                                 std::string_view path, std::string_view name) {
  return TypedField(object, path, name, &nlohmann::json::is_array, "an array");
}

absl::StatusOr<bool> BoolField(const nlohmann::json& object, std::string_view path,
                               std::string_view name, bool fallback) {
  if (object.is_object() && !HasField(object, name)) return fallback;
  ABSL_ASSIGN_OR_RETURN(
      const nlohmann::json* value,
      TypedField(object, path, name, &nlohmann::json::is_boolean, "true or false"));
  return value->get<bool>();
}

bool HasField(const nlohmann::json& object, std::string_view name) {
  const auto it = object.find(name);
  return it != object.end() && !it->is_null();
}

const nlohmann::json& FieldOrNull(const nlohmann::json& object, std::string_view name) {
  static const nlohmann::json* null = new nlohmann::json(nullptr);
  const auto it = object.find(name);
  return it == object.end() ? *null : *it;
}

std::string Abbreviate(const nlohmann::json& value) {
  if (value.is_object()) return absl::StrCat("an object of ", value.size(), " fields");
  if (value.is_array()) return absl::StrCat("an array of ", value.size(), " elements");
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

}  // namespace lathe
