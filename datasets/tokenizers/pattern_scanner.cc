#include "lathe/datasets/tokenizers/pattern_scanner.h"

#include "lathe/datasets/tokenizers/unicode_classes.h"
#include "lathe/datasets/tokenizers/utf8.h"

namespace lathe {

const char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

// Reads classes from a text; what the scanners below share.
class ClassReader {
 public:
  explicit ClassReader(std::string_view text)
      : classes_(UnicodeClasses::Get()), text_(text.data()), size_(text.size()) {}

  size_t size() const { return size_; }
  char operator[](size_t i) const { return text_[i]; }

  CodePoint CodePointAt(size_t i) const { return DecodeUtf8(text_ + i); }

  // The classes of the code point at `i`, or -1 at the end; `*next` is where it ends.
  int At(size_t i, size_t* next) const {
    if (i >= size_) return -1;
    const unsigned char byte = text_[i];
    if (byte < 0x80) {
      *next = i + 1;
      return classes_[byte];
    }
    const CodePoint c = DecodeUtf8(text_ + i);
    *next = i + c.num_bytes;
    return classes_[c.value];
  }

  // The end of the run of code points from `i` on that have one of `bits`.
  size_t SkipAny(size_t i, uint8_t bits) const {
    size_t next = i;
    while (i < size_ && (At(i, &next) & bits) != 0) i = next;
    return i;
  }

  // The end of the run of code points from `i` on that have none of `bits`.
  size_t SkipNone(size_t i, uint8_t bits) const {
    size_t next = i;
    while (i < size_ && (At(i, &next) & bits) == 0) i = next;
    return i;
  }

  // The end of the match of `\s+(?!\S)|\s+` in the run of spaces [begin, end): all of the run at
  // the end of the text, else all but its last code point, which goes to the word after it; a lone
  // one stays.
  size_t EndOfSpaces(size_t begin, size_t end) const {
    if (end == size_) return end;
    const size_t last = end - DecodeUtf8Before(text_ + end).num_bytes;
    return last > begin ? last : end;
  }

 private:
  const UnicodeClasses& classes_;
  const char* text_;
  size_t size_;
};

// The length of 's 't 're 've 'm 'll or 'd at `i`, where an apostrophe stands; 0 if there is none.
template <bool kIgnoreCase>
size_t ContractionLength(const ClassReader& text, size_t i) {
  const auto letter = [&](size_t k) -> char {
    if (k >= text.size()) return 0;
    const char c = text[k];
    return kIgnoreCase && c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
  };
  switch (letter(i + 1)) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return 2;
    case 'r':
    case 'v':
      return letter(i + 2) == 'e' ? 3 : 0;
    case 'l':
      return letter(i + 2) == 'l' ? 3 : 0;
    case '\xC5':  // U+017F, the long s, is an s when case is ignored
      return kIgnoreCase && letter(i + 2) == '\xBF' ? 3 : 0;
    default:
      return 0;
  }
}

// kGpt2Pattern.
struct Gpt2Rules {
  static size_t EndOfPiece(const ClassReader& text, size_t begin) {
    if (text[begin] == '\'') {
      if (const size_t length = ContractionLength<false>(text, begin); length > 0)
        return begin + length;
    }
    size_t start = begin + (text[begin] == ' ' ? 1 : 0);
    size_t next = start;
    int bits = text.At(start, &next);
    if (bits >= 0 && (bits & kSpaceClass) == 0) {
      if (bits & kLetterClass) return text.SkipAny(next, kLetterClass);
      if (bits & kNumberClass) return text.SkipAny(next, kNumberClass);
      return text.SkipNone(next, kSpaceClass | kLetterClass | kNumberClass);
    }
    return text.EndOfSpaces(begin, text.SkipAny(start, kSpaceClass));
  }
};

bool IsLineEnd(char c) { return c == '\r' || c == '\n'; }

// The end of [\r\n]* from `end` on.
size_t SkipLineEnds(const ClassReader& text, size_t end) {
  while (end < text.size() && IsLineEnd(text[end])) ++end;
  return end;
}

// The end of the match of `\s*[\r\n]+|\s+(?!\S)|\s+` in the run of spaces [begin, end): up to its
// last line end.
size_t EndOfSpacesAndLines(const ClassReader& text, size_t begin, size_t end) {
  for (size_t i = end; i > begin; --i) {
    if (IsLineEnd(text[i - 1])) return i;
  }
  return text.EndOfSpaces(begin, end);
}

// The end of a number of at most kMaxDigits digits whose first one ends at `end`.
template <int kMaxDigits>
size_t EndOfNumber(const ClassReader& text, size_t end) {
  size_t next = end;
  for (int i = 1; i < kMaxDigits && end < text.size(); ++i) {
    if ((text.At(end, &next) & kNumberClass) == 0) break;
    end = next;
  }
  return end;
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,k}|
// ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|
// \s+(?!\S)|\s+ with `kMaxDigits` for k; `kWord` are the classes in place of \p{L} inside words.
template <int kMaxDigits, uint8_t kWord>
struct Cl100kRules {
  static size_t EndOfPiece(const ClassReader& text, size_t begin) {
    size_t next = begin;
    const char first = text[begin];
    const int bits = text.At(begin, &next);
    if (bits & kWord) return text.SkipAny(next, kWord);
    if (bits & kNumberClass) return EndOfNumber<kMaxDigits>(text, next);
    if (first == '\'') {
      if (const size_t length = ContractionLength<true>(text, begin); length > 0)
        return begin + length;
    }
    // Any one character before a word belongs to it, unless it ends a line.
    size_t after_next = next;
    const int next_bits = text.At(next, &after_next);
    if (next_bits >= 0 && (next_bits & kWord) && !IsLineEnd(first)) {
      return text.SkipAny(after_next, kWord);
    }
    constexpr uint8_t kNotOther = kSpaceClass | kNumberClass | kWord;
    if ((bits & kSpaceClass) == 0) return SkipLineEnds(text, text.SkipNone(next, kNotOther));
    if (first == ' ' && next_bits >= 0 && (next_bits & kNotOther) == 0) {
      return SkipLineEnds(text, text.SkipNone(after_next, kNotOther));
    }
    return EndOfSpacesAndLines(text, begin, text.SkipAny(next, kSpaceClass));
  }
};

template <bool kIndividual>
struct DigitsRules {
  static size_t EndOfPiece(const ClassReader& text, size_t begin) {
    size_t next = begin;
    if (text.At(begin, &next) & kNumericClass) {
      return kIndividual ? next : text.SkipAny(next, kNumericClass);
    }
    return text.SkipNone(next, kNumericClass);
  }
};

// \p{N}{1,3}; what lies between is one piece.
struct NumberGroupRules {
  static size_t EndOfPiece(const ClassReader& text, size_t begin) {
    size_t end = begin;
    if ((text.At(begin, &end) & kNumberClass) == 0) return text.SkipNone(end, kNumberClass);
    return EndOfNumber<3>(text, end);
  }
};

// [一-龥぀-ゟ゠-ヿ]+; what lies between is one piece.
struct CjkRunRules {
  static bool IsCjk(const ClassReader& text, size_t i, size_t* next) {
    const CodePoint c = text.CodePointAt(i);
    *next = i + c.num_bytes;
    return (c.value >= 0x4E00 && c.value <= 0x9FA5) || (c.value >= 0x3040 && c.value <= 0x30FF);
  }

  static size_t EndOfPiece(const ClassReader& text, size_t begin) {
    size_t end = begin, next = begin;
    const bool is_cjk = IsCjk(text, begin, &end);
    while (end < text.size() && IsCjk(text, end, &next) == is_cjk) end = next;
    return end;
  }
};

// [!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|
// ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ Where none of these matches, at digits and control
// characters, the piece goes on to the next match.
struct DeepSeekRules {
  static constexpr uint8_t kWord = kLetterClass | kMarkClass;
  static constexpr uint8_t kOther = kPunctuationClass | kSymbolClass;

  static bool IsAsciiLetter(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

  // The end of the match at `begin`, or `begin` when there is none.
  static size_t EndOfMatch(const ClassReader& text, size_t begin) {
    size_t next = begin, after_next = begin;
    const char first = text[begin];
    const int bits = text.At(begin, &next);
    const int next_bits = text.At(next, &after_next);
    if ((bits & kOther) && next == begin + 1 && next < text.size() && IsAsciiLetter(text[next])) {
      while (next < text.size() && IsAsciiLetter(text[next])) ++next;
      return next;
    }
    if (bits & kWord) return text.SkipAny(next, kWord);
    if ((bits & kOther) == 0 && !IsLineEnd(first) && next_bits >= 0 && (next_bits & kWord)) {
      return text.SkipAny(after_next, kWord);
    }
    if (bits & kOther) return SkipLineEnds(text, text.SkipAny(next, kOther));
    if (first == ' ' && next_bits >= 0 && (next_bits & kOther)) {
      return SkipLineEnds(text, text.SkipAny(after_next, kOther));
    }
    if (bits & kSpaceClass)
      return EndOfSpacesAndLines(text, begin, text.SkipAny(next, kSpaceClass));
    return begin;
  }

  static size_t EndOfPiece(const ClassReader& text, size_t begin) {
    size_t end = EndOfMatch(text, begin);
    if (end != begin) return end;
    do {
      text.At(end, &end);
    } while (end < text.size() && EndOfMatch(text, end) == end);
    return end;
  }
};

template <typename Rules>
class Scanner : public Splitter {
 public:
  absl::Status Split(std::string_view text, size_t* position,
                     std::vector<Piece>* pieces) const override {
    const ClassReader reader(text);
    size_t begin = *position;
    for (size_t i = 0; i < kPiecesPerCall && begin < text.size(); ++i) {
      const size_t end = Rules::EndOfPiece(reader, begin);
      pieces->push_back({static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
      begin = end;
    }
    *position = begin;
    return absl::OkStatus();
  }
};

constexpr char kNumberGroups[] = R"(\p{N}{1,3})";
constexpr char kCjkRuns[] = "[一-龥\u3040-ゟ゠-ヿ]+";
constexpr char kDeepSeek[] = R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+)"
                             "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*"
                             "|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";
constexpr char kContractions[] = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|)";
constexpr char kSpacesEnd[] = R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

}  // namespace

std::unique_ptr<Splitter> MakePatternScanner(std::string_view regex) {
  if (regex == kGpt2Pattern) return std::make_unique<Scanner<Gpt2Rules>>();
  if (regex == kNumberGroups) return std::make_unique<Scanner<NumberGroupRules>>();
  if (regex == kCjkRuns) return std::make_unique<Scanner<CjkRunRules>>();
  if (regex == kDeepSeek) return std::make_unique<Scanner<DeepSeekRules>>();
  // What is left are the contractions, a middle that differs, and the rules for spaces.
  if (!regex.starts_with(kContractions) || !regex.ends_with(kSpacesEnd)) return nullptr;
  regex.remove_prefix(sizeof(kContractions) - 1);
  if (regex.size() < sizeof(kSpacesEnd) - 1) return nullptr;
  regex.remove_suffix(sizeof(kSpacesEnd) - 1);
  if (regex == R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)") {
    return std::make_unique<Scanner<Cl100kRules<1, kLetterClass>>>();
  }
  if (regex == R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)") {
    return std::make_unique<Scanner<Cl100kRules<3, kLetterClass>>>();
  }
  if (regex == R"([^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*)") {
    return std::make_unique<Scanner<Cl100kRules<1, kLetterClass | kMarkClass>>>();
  }
  return nullptr;
}

std::unique_ptr<Splitter> MakeDigitsSplitter(bool individual_digits) {
  if (individual_digits) return std::make_unique<Scanner<DigitsRules<true>>>();
  return std::make_unique<Scanner<DigitsRules<false>>>();
}

}  // namespace lathe
