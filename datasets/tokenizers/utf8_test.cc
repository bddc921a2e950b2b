#include "lathe/datasets/tokenizers/utf8.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace lathe {
namespace {

constexpr size_t kNone = std::string_view::npos;

bool IsScalar(uint32_t c) { return c < 0x110000 && (c < 0xD800 || c > 0xDFFF); }

TEST(Utf8Test, EveryScalarValueSurvives) {
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (!IsScalar(c)) continue;
    std::string text;
    AppendUtf8(c, &text);
    ASSERT_EQ(FindInvalidUtf8(text), kNone) << c;
    ASSERT_EQ(DecodeUtf8(text.data()).value, c);
    ASSERT_EQ(DecodeUtf8(text.data()).num_bytes, text.size());
    ASSERT_EQ(DecodeUtf8Before(text.data() + text.size()).value, c);
  }
}

// Of all strings of up to 3 bytes and of 4 bytes with chosen middles, exactly the encodings of
// scalar values are valid.
TEST(Utf8Test, NothingElseIsOneCodePoint) {
  size_t num_valid[5] = {};
  std::string text;
  const auto count = [&] {
    // A valid string of n bytes whose first byte announces n bytes is one code point.
    if (FindInvalidUtf8(text) != kNone) return;
    if (DecodeUtf8(text.data()).num_bytes == text.size()) ++num_valid[text.size()];
  };
  for (int a = 0; a < 256; ++a) {
    text = std::string(1, static_cast<char>(a));
    count();
    for (int b = 0; b < 256; ++b) {
      text = {static_cast<char>(a), static_cast<char>(b)};
      count();
      for (int c = 0; c < 256; ++c) {
        text = {static_cast<char>(a), static_cast<char>(b), static_cast<char>(c)};
        count();
        if (a < 0xE0) continue;
        for (int d : {0x00, 0x7F, 0x80, 0xBF, 0xC0, 0xFF}) {
          text = {static_cast<char>(a), static_cast<char>(b), static_cast<char>(c),
                  static_cast<char>(d)};
          count();
        }
      }
    }
  }
  EXPECT_EQ(num_valid[1], 0x80u);
  EXPECT_EQ(num_valid[2], 0x800u - 0x80);
  EXPECT_EQ(num_valid[3], 0x10000u - 0x800 - 0x800);        // less the surrogates
  EXPECT_EQ(num_valid[4], (0x110000u - 0x10000) / 64 * 2);  // 2 of the 64 last bytes are tried
}

TEST(Utf8Test, FindsTheFirstBadByteBehindAscii) {
  const std::string ascii(37, 'x');
  for (size_t at = 0; at <= ascii.size(); ++at) {
    std::string text = ascii;
    text.insert(at, "\xC3");
    EXPECT_EQ(FindInvalidUtf8(text), at);
  }
}

TEST(Utf8Test, ReplacesMaximalParts) {
  const std::string r = "\xEF\xBF\xBD";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", ""},
      {"a\xFF\x62", "a" + r + "b"},
      {"\xC0\x80", r + r},                  // overlong
      {"\xE0\x80\x80", r + r + r},          // overlong
      {"\xED\xA0\x80", r + r + r},          // surrogate
      {"\xF4\x90\x80\x80", r + r + r + r},  // above U+10FFFF
      {"\xE4\xB8", r},                      // cut off
      {"\xF0\x9F\x91", r},                  // cut off
      {"\xE4\xB8 \xE4\xB8\xAD", r + " \xE4\xB8\xAD"},
      {"\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64", r + r + r + "b" + r + "c" + r + r + "d"},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(ReplaceInvalidUtf8(text), expected);
}

}  // namespace
}  // namespace lathe
