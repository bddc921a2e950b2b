#include "lathe/datasets/tokenizers/normalizer.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "lathe/datasets/tokenizers/utf8.h"

namespace lathe {
namespace {

std::string Nfc(std::string_view text) {
  const Normalizer normalizer = Normalizer::FromJson({{"type", "NFC"}}).value();
  std::string buffer;
  return std::string(normalizer.Apply(text, &buffer));
}

// Expected values: tokenizers 0.23.3, normalizers.NFC().normalize_str.
TEST(NormalizerTest, Nfc) {
  EXPECT_EQ(Nfc(""), "");
  EXPECT_EQ(Nfc("plain"), "plain");
  EXPECT_EQ(Nfc("cafe\u0301"), "caf\u00e9");
  EXPECT_EQ(Nfc("\u212b\u2126"), "\u00c5\u03a9");
  EXPECT_EQ(Nfc("a\u0301\u0323"), "\u1ea1\u0301");
  EXPECT_EQ(Nfc("\u1112\u1161\u11ab"), "\ud55c");
  EXPECT_EQ(Nfc("\u0958"), "\u0915\u093c");
  EXPECT_EQ(Nfc("ﬁ"), "ﬁ");
}

TEST(NormalizerTest, IsOfUnicode9) {
  // U+09FE came with Unicode 11 and would go behind U+0327, U+11938 with Unicode 13.
  EXPECT_EQ(Nfc("e\u0301\u0e01\u09fe\u0327"), "\u00e9\u0e01\u09fe\u0327");
  EXPECT_EQ(Nfc("e\u0301\U00011935\U00011930"), "\u00e9\U00011935\U00011930");
}

TEST(NormalizerTest, TextThatDoesNotChangeIsNotCopied) {
  const Normalizer nfc = Normalizer::FromJson({{"type", "NFC"}}).value();
  const Normalizer none = Normalizer::FromJson(nullptr).value();
  std::string buffer;
  const std::string normal = "caf\u00e9 中文", other = "e\u0301";
  EXPECT_EQ(nfc.Apply(normal, &buffer).data(), normal.data());
  EXPECT_EQ(none.Apply(other, &buffer).data(), other.data());
}

TEST(NormalizerTest, ManyMarksAreSortedInLinearTime) {
  // Classes 230 and 220; at 400,000 marks the quadratic way takes minutes.
  std::string text = "q", expected;
  for (int i = 0; i < 200'000; ++i) text += "\u0302\u0324";
  expected = "q";
  for (int i = 0; i < 200'000; ++i) expected += "\u0324";
  for (int i = 0; i < 200'000; ++i) expected += "\u0302";
  EXPECT_EQ(Nfc(text), expected);
}

TEST(NormalizerTest, LongRunsOfMarksEqualShortOnes) {
  // Marks of one class keep their order; classes ascend. None of these composes with q.
  const std::vector<std::pair<uint32_t, int>> marks = {{0x0334, 1},   {0x0327, 202}, {0x0324, 220},
                                                       {0x0302, 230}, {0x030C, 230}, {0x0345, 240}};
  std::mt19937 random(1);
  for (int length = 1; length < 100; ++length) {
    std::vector<std::pair<uint32_t, int>> run;
    for (int i = 0; i < length; ++i) run.push_back(marks[random() % marks.size()]);
    std::string text = "q", expected = "q";
    for (const auto& [mark, combining_class] : run) AppendUtf8(mark, &text);
    std::stable_sort(run.begin(), run.end(),
                     [](const auto& a, const auto& b) { return a.second < b.second; });
    for (const auto& [mark, combining_class] : run) AppendUtf8(mark, &expected);
    EXPECT_EQ(Nfc(text + "e\u0301"), expected + "\u00e9");
  }
}

TEST(NormalizerTest, Sequences) {
  EXPECT_TRUE(
      Normalizer::FromJson({{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}}}}).ok());
  const absl::Status status =
      Normalizer::FromJson(
          {{"type", "Sequence"}, {"normalizers", {{{"type", "NFC"}}, {{"type", "Lowercase"}}}}})
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_NE(status.message().find("normalizer.normalizers[1].type is Lowercase"), std::string::npos)
      << status;
}

}  // namespace
}  // namespace lathe
