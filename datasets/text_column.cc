#include "lathe/datasets/text_column.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

constexpr size_t kMostColumnsInMessage = 8;

// The beginning of `text` as printable ASCII: what a file holds must not spoil a terminal, nor a
// long document make a long message.
std::string Shown(std::string_view text, size_t most_bytes) {
  std::string shown(text.substr(0, most_bytes));
  for (char& c : shown) {
    if (c < 0x20 || c >= 0x7F) c = '?';
  }
  if (text.size() > most_bytes) shown += "...";
  return shown;
}

// Takes one field out of the outermost object and builds nothing of the rest. The parser that calls
// it keeps its own stack on the heap, so that deep nesting is harmless.
class ColumnReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit ColumnReader(std::string_view column) : column_(column) {}

  bool null() override { return Value("null"); }
  bool boolean(bool) override { return Value("a boolean"); }
  bool number_integer(number_integer_t) override { return Value("a number"); }
  bool number_unsigned(number_unsigned_t) override { return Value("a number"); }
  bool number_float(number_float_t, const string_t&) override { return Value("a number"); }
  bool binary(binary_t&) override { return Value("binary"); }
  bool string(string_t& value) override {
    if (depth_ == 1 && at_column_) text_ = std::move(value);
    return Value("a string");
  }
  bool start_object(size_t) override {
    const bool ok = Value("an object");
    ++depth_;
    return ok;
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool start_array(size_t) override {
    const bool ok = Value("an array");
    ++depth_;
    return ok;
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool key(string_t& name) override {
    if (depth_ != 1) return true;
    at_column_ = name == column_;
    if (at_column_ && found_.has_value()) {
      return Fail(absl::StrCat("field \"", column_, "\" stands twice in the object"));
    }
    if (columns_.size() < kMostColumnsInMessage)
      columns_.push_back(absl::StrCat("\"", Shown(name, 40), "\""));
    return true;
  }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::json::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 7: syntax error while ..."
    // The line is always 1, and the column is what `position` says.
    std::string_view what = error.what();
    if (const size_t bracket = what.find("] "); bracket != what.npos)
      what.remove_prefix(bracket + 2);
    if (const size_t colon = what.find(": ");
        colon != what.npos && what.starts_with("parse error")) {
      what.remove_prefix(colon + 2);
    }
    return Fail(
        absl::StrCat("not a JSON object in UTF-8, at byte ", position, ": ", Shown(what, 200)));
  }

  absl::StatusOr<std::string> Result() && {
    if (!error_.empty()) return absl::InvalidArgumentError(error_);
    if (!found_.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat("no field \"", column_, "\", which --text_column_name asks for; there ",
                       columns_.size() == 1 ? "is " : "are ",
                       columns_.empty() ? "none" : absl::StrJoin(columns_, ", ")));
    }
    if (!text_.has_value()) {
      return absl::InvalidArgumentError(
          absl::StrCat("field \"", column_, "\" is ", *found_, ", not a string"));
    }
    return *std::move(text_);
  }

 private:
  // Every value passes here, with its kind; one at depth 0 is the line itself.
  bool Value(const char* kind) {
    if (depth_ == 0 && std::string_view(kind) != "an object") {
      return Fail(absl::StrCat("the line is ", kind, ", not a JSON object"));
    }
    if (depth_ == 1 && at_column_) found_ = kind;
    return true;
  }
  bool Fail(std::string error) {
    if (error_.empty()) error_ = std::move(error);
    return false;
  }

  const std::string_view column_;
  int64_t depth_ = 0;
  bool at_column_ = false;
  std::optional<const char*> found_;  // what the column holds
  std::optional<std::string> text_;
  std::vector<std::string> columns_;
  std::string error_;
};

}  // namespace

absl::StatusOr<std::string> ReadTextColumn(std::string_view line, std::string_view column) {
  // The parser takes a NUL for the end of the text.
  if (const size_t nul = line.find('\0'); nul != std::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat("a NUL byte at byte ", nul + 1));
  }
  ColumnReader reader(column);
  nlohmann::json::sax_parse(line.begin(), line.end(), &reader);
  return std::move(reader).Result();
}

}  // namespace lathe
