#include "lathe/checkpoint/json_limits.h"

#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/checkpoint/posix_file.h"

namespace lathe {
namespace {

constexpr size_t kMaxString = size_t{16} << 20;
constexpr size_t kMaxOtherToken = 4096;

// One pass that knows only where strings start and end.
absl::Status CheckTokenLengths(std::string_view text) {
  bool in_string = false;
  bool escaped = false;
  size_t run = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    ++run;
    if (in_string) {
      if (escaped) {
        escaped = false;
      } else if (c == '\\') {
        escaped = true;
      } else if (c == '"') {
        in_string = false;
        run = 0;
      }
    } else if (c == '"') {
      in_string = true;
      run = 0;
    } else if (c == '{' || c == '}' || c == '[' || c == ']' || c == ',' || c == ':') {
      run = 0;
    }
    if (run > (in_string ? kMaxString : kMaxOtherToken)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the JSON text has a ", in_string ? "string" : "number, word or white space",
          " of more than ", in_string ? kMaxString : kMaxOtherToken, " bytes at byte ", i));
    }
  }
  return absl::OkStatus();
}

}  // namespace

bool JsonEvents::Refuse(std::string_view message) {
  if (status_.ok()) status_ = absl::InvalidArgumentError(message);
  return false;
}

bool JsonEvents::number_float(number_float_t, const string_t& text) {
  return Refuse(absl::StrCat("the number ", Printable(text), " is not a whole number below 2^64"));
}

bool JsonEvents::parse_error(std::size_t position, const std::string& last_token,
                             const nlohmann::json::exception&) {
  return Refuse(absl::StrCat("not valid UTF-8 JSON at byte ", position, ", near '",
                             Printable(last_token), "'"));
}

absl::Status ParseJson(std::string_view text, JsonEvents& events) {
  ABSL_RETURN_IF_ERROR(CheckTokenLengths(text));
  const bool complete = nlohmann::json::sax_parse(text.begin(), text.end(), &events);
  if (!events.status().ok()) return events.status();
  if (!complete) return absl::InvalidArgumentError("not valid JSON");
  // The parser takes a NUL for the end of the text.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat("not valid JSON: a NUL byte at byte ", nul + 1));
  }
  return absl::OkStatus();
}

}  // namespace lathe
