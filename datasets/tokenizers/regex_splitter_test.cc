#include "lathe/datasets/tokenizers/regex_splitter.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

std::string Cut(const absl::StatusOr<std::unique_ptr<Splitter>>& splitter,
                const std::string& text) {
  if (!splitter.ok()) return std::string(splitter.status().message());
  std::string cut;
  for (size_t position = 0; position < text.size();) {
    std::vector<Piece> pieces;
    const absl::Status status = (*splitter)->Split(text, &position, &pieces);
    if (!status.ok()) return std::string(absl::StatusCodeToString(status.code()));
    for (const Piece& piece : pieces)
      absl::StrAppend(&cut, text.substr(piece.begin, piece.end - piece.begin), "|");
  }
  return cut;
}

// Expected values: tokenizers 0.23.3, pre_tokenizers.Split(...).pre_tokenize_str.
TEST(RegexSplitterTest, BehaviorsAsHuggingFace) {
  const std::string text = "the--final-countdown--";
  const auto cut = [&](SplitBehavior behavior, bool invert) {
    return Cut(MakeRegexSplitter("-", behavior, invert), text);
  };
  EXPECT_EQ(cut(SplitBehavior::kRemoved, false), "the|final|countdown|");
  EXPECT_EQ(cut(SplitBehavior::kIsolated, false), "the|-|-|final|-|countdown|-|-|");
  EXPECT_EQ(cut(SplitBehavior::kMergedWithPrevious, false), "the-|-|final-|countdown-|-|");
  EXPECT_EQ(cut(SplitBehavior::kMergedWithNext, false), "the|-|-final|-countdown|-|-|");
  EXPECT_EQ(cut(SplitBehavior::kContiguous, false), "the|--|final|-|countdown|--|");
  EXPECT_EQ(cut(SplitBehavior::kRemoved, true), "-|-|-|-|-|");
  EXPECT_EQ(cut(SplitBehavior::kIsolated, true), "the|-|-|final|-|countdown|-|-|");
}

TEST(RegexSplitterTest, LiteralsAreNoPatterns) {
  EXPECT_EQ(Cut(MakeLiteralSplitter("a.", SplitBehavior::kRemoved, false), "xa.yab"), "x|yab|");
  EXPECT_FALSE(MakeLiteralSplitter("", SplitBehavior::kRemoved, false).ok());
}

TEST(RegexSplitterTest, EmptyMatchesCutNothingAway) {
  EXPECT_EQ(Cut(MakeRegexSplitter("x*", SplitBehavior::kIsolated, false), "axxb中"), "a|xx|b|中|");
  EXPECT_EQ(Cut(MakeRegexSplitter("(?=b)", SplitBehavior::kIsolated, false), "abcb"), "a|bc|b|");
}

TEST(RegexSplitterTest, EndOfLineMatchesAtEachLine) {
  EXPECT_EQ(Cut(MakeRegexSplitter(" +$", SplitBehavior::kIsolated, false), "a  \nb "),
            "a|  |\nb| |");
}

TEST(RegexSplitterTest, SpacesAreUnicode16) {
  // U+180E is no space since Unicode 6.3, U+0085 is one.
  EXPECT_EQ(
      Cut(MakeRegexSplitter(R"(\s)", SplitBehavior::kRemoved, false), "a\u180eb\u0085c\u3000d"),
      "a\u180eb|c|d|");
  EXPECT_EQ(Cut(MakeRegexSplitter(R"([\S])", SplitBehavior::kRemoved, false), "a \u180e"), " |");
  // A letter of Unicode 15 and one of Unicode 16.
  EXPECT_EQ(Cut(MakeRegexSplitter(R"(\p{L}+)", SplitBehavior::kIsolated, false),
                "1\U000323afa\U00010d4a1"),
            "1|\U000323afa\U00010d4a|1|");
}

TEST(RegexSplitterTest, RefusesWhatTheEnginesReadDifferently) {
  for (const char* pattern :
       {R"(\w+)", R"(\bx)", R"(\h)", R"(\R)", R"(\K)", R"(\1)", "[a[bc]]", "[a&&b]", "a{1,3}+",
        "(?m:.)", "(?<name>a)", "(*UTF)a", "[]a]", "\\", R"(\pL)", "(?#x)"}) {
    const auto splitter = MakeRegexSplitter(pattern, SplitBehavior::kIsolated, false);
    EXPECT_EQ(splitter.status().code(), absl::StatusCode::kInvalidArgument) << pattern;
  }
  for (const char* pattern : {"(", "[", "a{2,1}", R"(\p{Nonsense})", "+"}) {
    EXPECT_FALSE(MakeRegexSplitter(pattern, SplitBehavior::kIsolated, false).ok()) << pattern;
  }
  EXPECT_FALSE(MakeRegexSplitter(std::string(100'000, 'a'), SplitBehavior::kIsolated, false).ok());
}

TEST(RegexSplitterTest, GivesUpOnAHostilePattern) {
  EXPECT_EQ(Cut(MakeRegexSplitter("(?:a|a)+[bc]", SplitBehavior::kIsolated, false),
                std::string(2000, 'a')),
            "RESOURCE_EXHAUSTED");
}

}  // namespace
}  // namespace lathe
