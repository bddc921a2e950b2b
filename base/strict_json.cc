#include "lathe/base/strict_json.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace lathe {
namespace {

using nlohmann::ordered_json;

// "line:column" of the byte at `position`.
std::string Place(std::string_view text, size_t position) {
  const std::string_view before = text.substr(0, std::min(position, text.size()));
  const size_t line = std::count(before.begin(), before.end(), '\n') + 1;
  const size_t newline = before.rfind('\n');
  const size_t column =
      newline == std::string_view::npos ? before.size() : before.size() - newline - 1;
  return absl::StrCat(line, ":", std::max<size_t>(column, 1));
}

// nlohmann's what() is "[json.exception.parse_error.101] parse error at line 1, column 2: WHAT".
std::string What(const ordered_json::exception& error) {
  const std::string_view what = error.what();
  const size_t column = what.find("column ");
  const size_t colon = what.find(": ", column == std::string_view::npos ? 0 : column);
  const std::string_view text = colon == std::string_view::npos ? what : what.substr(colon + 2);
  return absl::StrReplaceAll(text, {{"\n", " "}, {"\r", " "}});
}

}  // namespace

absl::StatusOr<ordered_json> ParseStrictJson(std::string_view text, std::string_view source,
                                             JsonComments comments) {
  // The parser takes a NUL for the end of the text.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ":", Place(text, nul), ": a NUL byte in JSON"));
  }
  std::vector<std::set<std::string>> keys;
  std::string twice;
  bool too_deep = false, too_many = false;
  const auto watch = [&](int depth, ordered_json::parse_event_t event, ordered_json& parsed) {
    const bool starts = event == ordered_json::parse_event_t::object_start ||
                        event == ordered_json::parse_event_t::array_start;
    if (starts && depth >= kMostJsonDepth) too_deep = true;
    if (event == ordered_json::parse_event_t::object_start) {
      keys.emplace_back();
    } else if (event == ordered_json::parse_event_t::object_end) {
      keys.pop_back();
    } else if (event == ordered_json::parse_event_t::key) {
      const std::string& key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(key).second && twice.empty()) twice = key;
      // ordered_json looks through all keys of an object for each that it adds.
      if (keys.back().size() > static_cast<size_t>(kMostJsonKeys)) too_many = true;
    }
    return !too_deep && !too_many;  // false: nothing below is kept
  };
  try {
    ordered_json value = ordered_json::parse(text, watch, /*allow_exceptions=*/true,
                                             comments == JsonComments::kSkipped);
    if (too_deep) {
      return absl::InvalidArgumentError(
          absl::StrCat(source, ": JSON nested deeper than ", kMostJsonDepth, " levels"));
    }
    if (too_many) {
      return absl::InvalidArgumentError(
          absl::StrCat(source, ": more than ", kMostJsonKeys, " keys in one JSON object"));
    }
    if (!twice.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(source, ": key \"", twice, "\" is given twice in one object"));
    }
    return value;
  } catch (const ordered_json::parse_error& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ":", Place(text, error.byte), ": ", What(error)));
  } catch (const ordered_json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": ", What(error)));
  }
}

}  // namespace lathe
