#include "lathe/datasets/text_column.h"

#include <random>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

using std::string_view_literals::operator""sv;

TEST(ReadTextColumn, ReadsTheField) {
  EXPECT_EQ(*ReadTextColumn(R"({"text": "one"})", "text"), "one");
  EXPECT_EQ(
      *ReadTextColumn("  {\"a\":[1,{\"text\":\"no\"}],\"text\":\"yes\",\"b\":null} \r", "text"),
      "yes");
  EXPECT_EQ(*ReadTextColumn(R"({"text": {"text": "no"}, "body": ""})", "body"), "");
  EXPECT_EQ(*ReadTextColumn(R"({"text": "\u00e9\n\"\\\/\ud83d\ude00 \u0000."})", "text"),
            "é\n\"\\/😀 \0."sv);
  EXPECT_EQ(*ReadTextColumn("\xef\xbb\xbf{\"text\": \"after a BOM\"}", "text"), "after a BOM");
  EXPECT_EQ(*ReadTextColumn(R"({"n": 1e5, "m": -3, "t": true, "text": "x"})", "text"), "x");
}

TEST(ReadTextColumn, NestingIsHarmless) {
  const std::string deep(1'000'000, '[');
  const std::string shut(1'000'000, ']');
  EXPECT_EQ(*ReadTextColumn("{\"a\":" + deep + shut + ",\"text\":\"x\"}", "text"), "x");
  EXPECT_FALSE(ReadTextColumn("{\"a\":" + deep, "text").ok());
}

struct BadLine {
  std::string_view line;
  std::string_view message;  // a part of it
};

TEST(ReadTextColumn, SaysWhatIsWrong) {
  const BadLine lines[] = {
      {"", "not a JSON object in UTF-8"},
      {"{", "not a JSON object in UTF-8"},
      {"{\"text\": \"cut", "not a JSON object in UTF-8"},
      {"{\"text\": \"x\"} {\"text\": \"y\"}", "not a JSON object in UTF-8, at byte 15"},
      {"{\"text\": \"x\",}", "not a JSON object"},
      {"{'text': 'x'}", "not a JSON object"},
      {"{\"text\": NaN}", "not a JSON object"},
      {"{\"text\": \"a\tb\"}", "not a JSON object"},
      {"{\"text\": \"\xff\"}", "not a JSON object in UTF-8, at byte 11"},
      {"{\"text\": \"\xc0\xaf\"}", "UTF-8"},
      {"{\"text\": \"\xed\xa0\x80\"}", "UTF-8"},
      {"{\"text\": \"\\ud800\"}", "UTF-8"},
      {"{\"text\": \"x\", \"n\": 1e999}", "not a JSON object"},
      {"[{\"text\": \"x\"}]", "the line is an array, not a JSON object"},
      {"\"text\"", "the line is a string, not a JSON object"},
      {"null", "the line is null"},
      {"{}", "no field \"text\", which --text_column_name asks for; there are none"},
      {"{\"body\": \"x\"}", "there is \"body\""},
      {"{\"a\": {\"text\": \"x\"}, \"b\": 2}", "there are \"a\", \"b\""},
      {"{\"text\": null}", "field \"text\" is null, not a string"},
      {"{\"text\": 5}", "is a number, not a string"},
      {"{\"text\": -5.5}", "is a number, not a string"},
      {"{\"text\": false}", "is a boolean, not a string"},
      {"{\"text\": [\"x\"]}", "is an array, not a string"},
      {"{\"text\": {\"text\": \"x\"}}", "is an object, not a string"},
      {"{\"text\": \"x\", \"text\": \"y\"}", "field \"text\" stands twice"},
  };
  for (const BadLine& bad : lines) {
    const absl::Status status = ReadTextColumn(bad.line, "text").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.line;
    EXPECT_NE(status.message().find(bad.message), std::string::npos) << bad.line << status;
  }
}

// Lines with random edits, against the parser that builds the whole value.
TEST(ReadTextColumn, EqualsTheWholeParser) {
  constexpr std::string_view kLine =
      R"({"a": [1, {"text": "no"}], "text": "caf\u00e9 \ud83d\ude00 é \n", "b": {"c": null}, "t": -1.5e3})";
  constexpr std::string_view kBytes = "\"\\{}[]:,tex019.-e \t\n\xff\xc3\xa9u";
  std::mt19937 random(3);
  int num_good = 0;
  for (int round = 0; round < 200'000; ++round) {
    std::string line(kLine);
    for (int edits = random() % 4; edits > 0; --edits) {
      const size_t at = random() % line.size();
      const char byte = kBytes[random() % kBytes.size()];
      switch (random() % 3) {
        case 0:
          line[at] = byte;
          break;
        case 1:
          line.erase(at, 1 + random() % 3);
          break;
        default:
          line.insert(at, 1, byte);
      }
    }
    const auto whole = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    const auto text = ReadTextColumn(line, "text");
    const bool good = whole.is_object() && whole.contains("text") && whole["text"].is_string();
    if (!good) {
      EXPECT_FALSE(text.ok()) << line;
    } else if (text.ok()) {
      EXPECT_EQ(*text, whole["text"].get<std::string>()) << line;
      ++num_good;
    } else {
      EXPECT_NE(text.status().message().find("stands twice"), std::string::npos) << line;
    }
  }
  EXPECT_GT(num_good, 50'000);
}

TEST(ReadTextColumn, MessagesStayShortAndPrintable) {
  const std::string line = "{\"" + std::string(100'000, 'k') + "\x01\xff";
  const absl::Status status = ReadTextColumn(line, "text").status();
  EXPECT_LT(status.message().size(), 400);
  for (const char c : status.message()) EXPECT_TRUE(c >= 0x20 && c < 0x7f);

  std::string many = "{";
  for (int i = 0; i < 1000; ++i) many += "\"" + std::string(300, 'k') + std::to_string(i) + "\":1,";
  many.back() = '}';
  EXPECT_LT(ReadTextColumn(many, "text").status().message().size(), 1000);
}

}  // namespace
}  // namespace lathe
