#include "lathe/base/strict_json.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string ErrorOf(std::string_view text) {
  const absl::StatusOr<nlohmann::ordered_json> parsed = ParseStrictJson(text, "f.json");
  EXPECT_FALSE(parsed.ok());
  if (parsed.ok()) return "";
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(parsed.status().message()), Not(HasSubstr("\n")));
  return std::string(parsed.status().message());
}

TEST(ParseStrictJsonTest, KeepsOrderAndValues) {
  const auto value = ParseStrictJson(R"({"b": [1, 2.5, null], "a": {"c": "x"}})", "f.json");
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ(value->dump(), R"({"b":[1,2.5,null],"a":{"c":"x"}})");
  EXPECT_EQ(*ParseStrictJson("3", "f.json"), 3);
}

TEST(ParseStrictJsonTest, ErrorsNameThePlace) {
  EXPECT_THAT(ErrorOf("{\n  \"a\": 1,\n  \"b\": }\n"), StartsWith("f.json:3:8: "));
  EXPECT_THAT(ErrorOf("{\"a\" 1}"), StartsWith("f.json:1:6: "));
  EXPECT_THAT(ErrorOf(""), StartsWith("f.json:1:1: "));
  EXPECT_THAT(ErrorOf("{\"a\": 1"), StartsWith("f.json:1:7: "));
  EXPECT_THAT(ErrorOf("{\"a\": NaN}"), StartsWith("f.json:1:"));
  EXPECT_THAT(ErrorOf("{} x"), StartsWith("f.json:1:4: "));
  EXPECT_THAT(ErrorOf("{\"a\": \"\xff\"}"), HasSubstr("UTF-8"));
  EXPECT_THAT(ErrorOf("{\"a\": \"x\ny\"}"), StartsWith("f.json:"));
  EXPECT_THAT(ErrorOf("{\"a\": 1e999}"), StartsWith("f.json: "));
}

TEST(ParseStrictJsonTest, AKeyGivenTwiceIsAnError) {
  EXPECT_EQ(ErrorOf(R"({"a": 1, "b": 2, "a": 3})"),
            "f.json: key \"a\" is given twice in one object");
  EXPECT_EQ(ErrorOf(R"({"x": {"b": 2, "b": 3}})"),
            "f.json: key \"b\" is given twice in one object");
  EXPECT_TRUE(
      ParseStrictJson(R"({"a": {"a": 1}, "b": {"a": 1}, "c": [{"a": 1}, {"a": 2}]})", "").ok());
}

TEST(ParseStrictJsonTest, CommentsAreSkippedWhereTheCallerSaysSo) {
  const std::string text = "// head\n{\"a\": 1, /* 2,\n */ \"b\": \"// kept /* */\"} // tail";
  const auto value = ParseStrictJson(text, "f.json", JsonComments::kSkipped);
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ(value->dump(), R"({"a":1,"b":"// kept /* */"})");
  EXPECT_THAT(ErrorOf(text), StartsWith("f.json:1:1: "));
  // Places count the comments' lines.
  const auto wrong = ParseStrictJson("/*\n\n*/ {\"a\": }", "f.json", JsonComments::kSkipped);
  EXPECT_THAT(std::string(wrong.status().message()), StartsWith("f.json:3:"));
  EXPECT_FALSE(ParseStrictJson("{} /* open", "f.json", JsonComments::kSkipped).ok());
}

TEST(ParseStrictJsonTest, DepthIsLimited) {
  const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(ParseStrictJson(nested(kMostJsonDepth), "f").ok());
  EXPECT_TRUE(ParseStrictJson(
                  std::string(kMostJsonDepth, '[') + "1" + std::string(kMostJsonDepth, ']'), "f")
                  .ok());
  EXPECT_EQ(ErrorOf(nested(kMostJsonDepth + 1)), "f.json: JSON nested deeper than 200 levels");
  EXPECT_EQ(ErrorOf(nested(3000000)), "f.json: JSON nested deeper than 200 levels");
}

}  // namespace
}  // namespace lathe
