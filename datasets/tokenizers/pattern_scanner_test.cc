#include "lathe/datasets/tokenizers/pattern_scanner.h"

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/datasets/tokenizers/regex_splitter.h"
#include "lathe/datasets/tokenizers/utf8.h"

namespace lathe {
namespace {

constexpr char kContractions[] = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|)";
constexpr char kSpaces[] = R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::vector<std::string> KnownPatterns() {
  const auto cl100k = [](const std::string& middle) {
    return absl::StrCat(kContractions, middle, kSpaces);
  };
  return {kGpt2Pattern,
          cl100k(R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"),
          cl100k(R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"),
          cl100k(R"([^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*)"),
          R"(\p{N}{1,3})",
          "[一-龥\u3040-ゟ゠-ヿ]+",
          R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+)"
          "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*"
          "|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"};
}

// The pieces with bars between them.
std::string Cut(const Splitter& splitter, const std::string& text) {
  std::string cut;
  for (size_t position = 0; position < text.size();) {
    std::vector<Piece> pieces;
    const size_t before = position;
    EXPECT_TRUE(splitter.Split(text, &position, &pieces).ok());
    EXPECT_GT(position, before);
    for (const Piece& piece : pieces) {
      EXPECT_LT(piece.begin, piece.end);
      absl::StrAppend(&cut, text.substr(piece.begin, piece.end - piece.begin), "|");
    }
  }
  return cut;
}

// Text of few kinds of characters, so that runs and changes between them are frequent.
std::string RandomText(std::mt19937* random) {
  static const auto* kinds =
      new std::vector<std::vector<uint32_t>>{{' '},
                                             {' ', '\t', 0x0B, 0x85, 0xA0, 0x2028, 0x3000, 0x180E},
                                             {'\n', '\r'},
                                             {'a', 'z', 'A', 's', 't', 'r', 'e', 'L'},
                                             {'0', '5', '9', 0x661, 0xB2, 0x2167, 0x10D40},
                                             {'!', '.', '-', '_', '(', '$', '+', 0x2014, 0x20AC},
                                             {'\''},
                                             {0x17F, 0xE9, 0xDF, 0x416},
                                             {0x300, 0x323, 0x93E, 0x20DD},
                                             {0x4E2D, 0x9FA5, 0x9FA6, 0x3042, 0x30AB, 0xAC00},
                                             {0, 1, 0x7F, 0x200B, 0xFEFF, 0xE000, 0x10FFFF},
                                             {0x1F600, 0x1FAAD, 0x323AF, 0x10D4A}};
  std::string text;
  const size_t num_kinds = 1 + (*random)() % 4;
  std::vector<size_t> used;
  for (size_t i = 0; i < num_kinds; ++i) used.push_back((*random)() % kinds->size());
  const size_t length = (*random)() % 40;
  for (size_t i = 0; i < length; ++i) {
    const std::vector<uint32_t>& kind = (*kinds)[used[(*random)() % used.size()]];
    AppendUtf8(kind[(*random)() % kind.size()], &text);
  }
  return text;
}

TEST(PatternScannerTest, CutsAsTheRegularExpression) {
  for (const std::string& pattern : KnownPatterns()) {
    const std::unique_ptr<Splitter> scanner = MakePatternScanner(pattern);
    ASSERT_NE(scanner, nullptr) << pattern;
    const auto regex = MakeRegexSplitter(pattern, SplitBehavior::kIsolated, false);
    ASSERT_TRUE(regex.ok()) << regex.status();
    std::mt19937 random(1);
    for (int i = 0; i < 30'000; ++i) {
      const std::string text = RandomText(&random);
      ASSERT_EQ(Cut(*scanner, text), Cut(**regex, text)) << pattern << "\n" << text;
    }
  }
}

TEST(PatternScannerTest, LongRunsTakeLinearTime) {
  for (const std::string& pattern : KnownPatterns()) {
    const std::unique_ptr<Splitter> scanner = MakePatternScanner(pattern);
    for (const char* unit : {"a", " ", "\n", " \n", "1", "!", "'", "\xE4\xB8\xAD", "\x01"}) {
      std::string text;
      for (int i = 0; i < 1'000'000; ++i) text += unit;
      text += "x";
      EXPECT_FALSE(Cut(*scanner, text).empty());
    }
  }
}

TEST(PatternScannerTest, OtherPatternsAreNotKnown) {
  for (const char* pattern : {"", R"(\s+)", "(?i:'s|'t|'re|'ve|'m|'ll|'d)|", R"(\p{N}{1,2})"}) {
    EXPECT_EQ(MakePatternScanner(pattern), nullptr) << pattern;
  }
  EXPECT_EQ(MakePatternScanner(std::string(kContractions) + (kSpaces + 1)), nullptr);
}

TEST(PatternScannerTest, Digits) {
  EXPECT_EQ(Cut(*MakeDigitsSplitter(true), "a12 b3½"), "a|1|2| b|3|½|");
  EXPECT_EQ(Cut(*MakeDigitsSplitter(false), "a12 b3½"), "a|12| b|3½|");
}

}  // namespace
}  // namespace lathe
