// Reads fields out of a JSON object with errors that name the field.
//
// Example:
//   ABSL_ASSIGN_OR_RETURN(std::string type, StringField(step, "pre_tokenizer", "type"));
//   // InvalidArgument: "pre_tokenizer.type is 3; expected a string"
//
// `path` is the name of `object` in its file, "" for the file's top level.
#ifndef LATHE_DATASETS_TOKENIZERS_JSON_FIELDS_H_
#define LATHE_DATASETS_TOKENIZERS_JSON_FIELDS_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace lathe {

// The field must be there and have the type. Errors: InvalidArgument.
absl::StatusOr<std::string> StringField(const nlohmann::json& object, std::string_view path,
                                        std::string_view name);
absl::StatusOr<const nlohmann::json*> ObjectField(const nlohmann::json& object,
                                                  std::string_view path, std::string_view name);
absl::StatusOr<const nlohmann::json*> ArrayField(const nlohmann::json& object,
                                                 std::string_view path, std::string_view name);

// An absent or null field is `fallback`.
absl::StatusOr<bool> BoolField(const nlohmann::json& object, std::string_view path,
                               std::string_view name, bool fallback);

// Whether the field is there and not null.
bool HasField(const nlohmann::json& object, std::string_view name);

// The field, or null when it is not there.
const nlohmann::json& FieldOrNull(const nlohmann::json& object, std::string_view name);

// The value in one short line, for error messages.
std::string Abbreviate(const nlohmann::json& value);

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKENIZERS_JSON_FIELDS_H_
