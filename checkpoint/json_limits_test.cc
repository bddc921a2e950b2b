#include "lathe/checkpoint/json_limits.h"

#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

// Takes everything.
class Anything : public JsonEvents {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool start_object(std::size_t) override { return true; }
  bool key(string_t&) override { return true; }
  bool start_array(std::size_t) override { return true; }
};

absl::Status Parse(const std::string& text) {
  Anything events;
  return ParseJson(text, events);
}

TEST(JsonLimitsTest, TakesJson) {
  EXPECT_TRUE(Parse(R"({"a": [1, -2, 3.5, null, true, "x\"y\\"], "b": {}})").ok());
  EXPECT_TRUE(Parse("[\"" + std::string(1 << 20, 'x') + "\"]").ok());
  EXPECT_TRUE(Parse(std::string(1 << 20, '[') + std::string(1 << 20, ']')).ok());
}

TEST(JsonLimitsTest, RefusesLongTokensBeforeTheParserBuffersThem) {
  for (const std::string& text :
       {"[" + std::string(5000, ' ') + "]", "[" + std::string(5000, '1') + "]",
        "[" + std::string(5000, 'x'), "[\"" + std::string((16 << 20) + 1, 'x') + "\"]"}) {
    EXPECT_TRUE(absl::StrContains(Parse(text).message(), "of more than")) << text.substr(0, 20);
  }
}

TEST(JsonLimitsTest, MistakesAreShortAndPlaced) {
  const absl::Status status = Parse("[1, 2 \"" + std::string(100000, '\n') + "]");
  EXPECT_TRUE(absl::StrContains(status.message(), "at byte 8")) << status;
  EXPECT_LT(status.message().size(), 300u);
  EXPECT_FALSE(Parse("").ok());
  EXPECT_FALSE(Parse("[\"\xff\"]").ok());
}

}  // namespace
}  // namespace lathe
