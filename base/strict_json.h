#ifndef LATHE_BASE_STRICT_JSON_H_
#define LATHE_BASE_STRICT_JSON_H_

// JSON from files that a person wrote or somebody sent: every mistake is one line with its place.
//
//   absl::StatusOr<nlohmann::ordered_json> json = ParseStrictJson(text, "run.json");
//   // run.json:3:17: syntax error while parsing value - unexpected '}' ...
//
// A key that an object has twice is an error (nlohmann would keep the last one in silence), and so
// is nesting beyond kMostJsonDepth, which would exhaust the stack of whoever walks the value, more
// than kMostJsonKeys keys in an object, which would take minutes, and a NUL byte. Objects keep the
// order of the file. Pure function: call from any thread.

#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace lathe {

inline constexpr int kMostJsonDepth = 200;
inline constexpr int kMostJsonKeys = 10'000;  // in one object

// What becomes of // and /* */, which JSON does not have and some people's files do.
enum class JsonComments { kRefused, kSkipped };

// `source` is what error messages call the text: a path, usually.
// Errors: InvalidArgument with "source:line:column: what".
absl::StatusOr<nlohmann::ordered_json> ParseStrictJson(
    std::string_view text, std::string_view source, JsonComments comments = JsonComments::kRefused);

}  // namespace lathe

#endif  // LATHE_BASE_STRICT_JSON_H_
