#include "lathe/datasets/tokenizers/regex_translator.h"

#include <pcre2.h>

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "lathe/datasets/tokenizers/unicode_classes.h"
#include "lathe/datasets/tokenizers/utf8.h"

namespace lathe {
namespace {

// The spaces and the rest, as the inside of a class: PCRE2's own \s has U+180E, which is no space
// any more.
constexpr char kSpaces[] =
    R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr char kNonSpaces[] =
    R"(\x00-\x08\x0E-\x1F!-\x{84}\x{86}-\x{9F}\x{A1}-\x{167F}\x{1681}-\x{1FFF}\x{200B}-\x{2027})"
    R"(\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{D7FF}\x{E000}-\x{10FFFF})";

// The code points of a class that PCRE2's tables, of Unicode 14, do not have yet, as ranges inside
// a class.
std::string NewerCodePoints(const std::string& property, uint8_t bit) {
  std::string all;
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (UnicodeClasses::Get()[c] & bit) AppendUtf8(c, &all);
  }
  const std::string pattern = absl::StrCat("[^\\p{", property, "}]");
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  CHECK(code != nullptr) << "PCRE2 was built without Unicode properties";
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  const PCRE2_SIZE* found = pcre2_get_ovector_pointer(data);
  std::vector<std::pair<uint32_t, uint32_t>> ranges;
  for (size_t at = 0; pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(all.data()), all.size(), at,
                                  PCRE2_NO_UTF_CHECK, data, nullptr) >= 0;
       at = found[1]) {
    const uint32_t c = DecodeUtf8(all.data() + found[0]).value;
    if (ranges.empty() || ranges.back().second + 1 != c) ranges.emplace_back(c, c);
    ranges.back().second = c;
  }
  pcre2_match_data_free(data);
  pcre2_code_free(code);
  std::string result;
  for (const auto& [first, last] : ranges)
    absl::StrAppendFormat(&result, "\\x{%X}-\\x{%X}", first, last);
  return result;
}

// NewerCodePoints of a property that our table has, "" for others.
const std::string& NewerCodePointsOf(std::string_view property) {
  static const auto* known = new std::map<std::string, std::string, std::less<>>{
      {"L", NewerCodePoints("L", kLetterClass)}, {"M", NewerCodePoints("M", kMarkClass)},
      {"N", NewerCodePoints("N", kNumberClass)}, {"P", NewerCodePoints("P", kPunctuationClass)},
      {"S", NewerCodePoints("S", kSymbolClass)}, {"", ""}};
  const auto it = known->find(property);
  return it == known->end() ? known->find("")->second : it->second;
}

// Turns a pattern for Oniguruma into one for PCRE2, and refuses what the two read differently.
class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  absl::StatusOr<std::string> Run() {
    while (position_ < pattern_.size()) {
      const absl::Status status = in_class_ ? InClass() : OutsideClass();
      if (!status.ok()) return status;
    }
    return translated_;
  }

 private:
  bool NextIs(std::string_view what) const { return pattern_.substr(position_).starts_with(what); }

  void Copy(size_t count) {
    translated_.append(pattern_.substr(position_, count));
    position_ += count;
  }

  absl::Status Refuse(std::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("the pattern has ", what, " at byte ", position_, ", which is not supported"));
  }

  absl::Status Escape() {
    if (position_ + 1 == pattern_.size()) return Refuse("a lone backslash");
    const char c = pattern_[position_ + 1];
    if (c == 's' || c == 'S') {
      const std::string_view inside = c == 's' ? kSpaces : kNonSpaces;
      absl::StrAppend(&translated_, in_class_ ? "" : "[", inside, in_class_ ? "" : "]");
      position_ += 2;
      return absl::OkStatus();
    }
    if (c == 'p' || c == 'P') {
      const size_t end = pattern_.find('}', position_);
      if (pattern_.substr(position_ + 2, 1) != "{" || end == std::string_view::npos) {
        return Refuse("a property without braces");
      }
      const std::string& newer =
          NewerCodePointsOf(pattern_.substr(position_ + 3, end - position_ - 3));
      const bool add_newer = c == 'p' && !newer.empty();
      if (add_newer && !in_class_) translated_.append("[");
      Copy(end + 1 - position_);
      if (add_newer) absl::StrAppend(&translated_, newer, in_class_ ? "" : "]");
      return absl::OkStatus();
    }
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) && !absl::StrContains("dDnrtfAz", c)) {
      return Refuse(absl::StrCat("the escape \\", std::string(1, c)));
    }
    Copy(2);
    return absl::OkStatus();
  }

  absl::Status InClass() {
    if (NextIs("\\")) return Escape();
    if (NextIs("[")) return Refuse("a class inside a class");
    if (NextIs("&&")) return Refuse("a class intersection");
    in_class_ = !NextIs("]");
    Copy(1);
    return absl::OkStatus();
  }

  absl::Status OutsideClass() {
    if (NextIs("\\")) return Escape();
    if (NextIs("[")) {
      Copy(NextIs("[^") ? 2 : 1);
      if (NextIs("]")) return Refuse("a ] first in a class");
      in_class_ = true;
      return absl::OkStatus();
    }
    if (NextIs("(*")) return Refuse("a verb (*");
    if (NextIs("(?")) {
      for (std::string_view kind : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"}) {
        if (!NextIs(kind)) continue;
        Copy(kind.size());
        return absl::OkStatus();
      }
      return Refuse(absl::StrCat("the group ", pattern_.substr(position_, 4)));
    }
    // {1,3}+ is possessive in PCRE2 and a repetition of the repetition in Oniguruma.
    if (NextIs("}+")) return Refuse("an interval with a +");
    Copy(1);
    return absl::OkStatus();
  }

  std::string_view pattern_;
  size_t position_ = 0;
  bool in_class_ = false;
  std::string translated_;
};

}  // namespace

absl::StatusOr<std::string> TranslateRegex(std::string_view pattern) {
  return Translator(pattern).Run();
}

}  // namespace lathe
