#ifndef LATHE_DATASETS_TEXT_COLUMN_H_
#define LATHE_DATASETS_TEXT_COLUMN_H_

// One line of JSON Lines → the string of one of its object's fields.

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace lathe {

// The string of field `column` of the JSON object that `line` is. Errors: InvalidArgument when
// `line` is not one JSON object in UTF-8, or the field is missing, given twice or no string; the
// message has no place in it. Any thread.
absl::StatusOr<std::string> ReadTextColumn(std::string_view line, std::string_view column);

}  // namespace lathe

#endif  // LATHE_DATASETS_TEXT_COLUMN_H_
