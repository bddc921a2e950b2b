#ifndef LATHE_BASE_CONFIG_FIELD_VALUE_H_
#define LATHE_BASE_CONFIG_FIELD_VALUE_H_

// Reading, checking and printing the value of one configuration field. What flags, JSON files and
// textproto files accept is the same because all three end here.
//
//   Message* parent = field.MutableParent(&run_config);
//   ABSL_RETURN_IF_ERROR(SetFromText(field, "1e-4", parent));     // type, then bounds and choices
//   ValueText(field, *parent);                                    // "0.0001"
//
// Errors are InvalidArgument and read as the end of a sentence that begins with the flag or key
// path: "expected a number, got 'abc'". Functions are pure but for the message they are given.

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "google/protobuf/message.h"
#include "lathe/base/config/schema.h"

namespace lathe {

// Sets the field of `parent` to the value that `text` spells, or, for a list, appends it; then
// checks it (CheckValue). Booleans are true/false, yes/no, t/f, y/n, 1/0 in any case; integers may
// be written 2e8; numbers are finite. On error the field keeps whatever it was last set to.
absl::Status SetFromText(const ConfigField& field, std::string_view text,
                         google::protobuf::Message* parent);

// Checks a value that is already in `parent` against the field's FlagSpec: bounds, choices, ratio,
// JSON syntax (which is also brought into its compact form), and that a flag which is not
// implemented has a value that asks for nothing.
absl::Status CheckValue(const ConfigField& field, google::protobuf::Message* parent);

// True when `text` spells a boolean; false for anything else.
bool ParseBool(std::string_view text, bool* value);

// The value as a user would type it; lists are separated by spaces, an unset field without default
// is
// "". Numbers are printed as Python does, whole ratios as integers.
std::string ValueText(const ConfigField& field, const google::protobuf::Message& parent);

// True when the field, or a list's every element, has been given or has a default.
bool HasValue(const ConfigField& field, const google::protobuf::Message& parent);

// True when the value differs from the one of an empty message.
bool IsChanged(const ConfigField& field, const google::protobuf::Message& parent);

// "an integer", "a number", "true or false", "one of linear, cosine", "JSON text", "text".
std::string ExpectedText(const ConfigField& field);

// The status with a message of one line: control characters that a user's text brought in are
// blanks.
absl::Status OneLine(const absl::Status& status);

}  // namespace lathe

#endif  // LATHE_BASE_CONFIG_FIELD_VALUE_H_
