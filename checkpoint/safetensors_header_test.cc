#include "lathe/checkpoint/safetensors_header.h"

#include <random>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

struct Hostile {
  std::string header;
  uint64_t data_bytes;
  std::string expected;  // in the message
};

// A header of one tensor 'a', given its fields.
std::string One(std::string_view fields) { return absl::StrCat(R"({"a":{)", fields, "}}"); }

const std::string kDeep = std::string(100000, '[') + std::string(100000, ']');
const Hostile kHostileHeaders[] = {
    // Not JSON, or not this kind of it.
    {"", 0, "does not start with '{'"},
    {"[]", 0, "does not start with '{'"},
    {" {}", 0, "does not start with '{'"},
    {"{", 0, "not valid UTF-8 JSON"},
    {"{}x", 0, "not valid UTF-8 JSON"},
    {"{}{}", 0, "not valid UTF-8 JSON"},
    {"{\"a\":\xff\xfe}", 0, "not valid UTF-8 JSON"},
    {"{\"\xc3\x28\":{}}", 0, "not valid UTF-8 JSON"},
    {"{\"\\ud800\":{}}", 0, "not valid UTF-8 JSON"},
    {std::string("{\"a\0b\":1}", 9), 0, "not valid UTF-8 JSON"},
    {"{\"a\":" + kDeep + "}", 0, "tensor 'a' is an array"},
    {R"({"a":{"shape":)" + kDeep + "}}", 0, "array in its shape"},
    {R"({"a":{"dtype":)" + kDeep + "}}", 0, "array as its dtype"},
    {R"({"a":{"b":{}}})", 0, "unknown key 'b'"},
    {R"({"a":{"dtype":{"x":1}}})", 0, "an object as its dtype"},
    {R"({"a":1})", 0, "tensor 'a' is a number"},
    {R"({"a":null})", 0, "tensor 'a' is null"},
    {R"({"a":"x"})", 0, "tensor 'a' is a string"},
    {R"({"a":[]})", 0, "tensor 'a' is an array"},
    {R"({"a":{}})", 0, "tensor 'a' has no dtype"},
    // Metadata.
    {R"({"__metadata__":"x"})", 0, "__metadata__ is a string"},
    {R"({"__metadata__":{"x":1}})", 0, "__metadata__ has a number under 'x', expected strings"},
    {R"({"__metadata__":{"x":{"y":"z"}}})", 0, "__metadata__ has an object under 'x'"},
    {R"({"__metadata__":{"x":["y"]}})", 0, "__metadata__ has an array under 'x'"},
    {R"({"__metadata__":{"x":"1","x":"2"}})", 0, "__metadata__ has the key 'x' twice"},
    {R"({"__metadata__":{},"__metadata__":{}})", 0, "__metadata__ appears twice"},
    // Duplicate keys.
    {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
     R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
     2, "tensor 'a' appears twice"},
    {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
     R"("\u0061":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
     2, "tensor 'a' appears twice"},
    {One(R"("dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1])"), 1, "two dtypes"},
    {One(R"("dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1])"), 1, "two shapes"},
    {One(R"("dtype":"U8","shape":[1],"data_offsets":[0,1],"data_offsets":[0,1])"), 1, "two data"},
    // Fields.
    {One(R"("shape":[1],"data_offsets":[0,1])"), 1, "has no dtype"},
    {One(R"("dtype":"U8","data_offsets":[0,1])"), 1, "has no shape"},
    {One(R"("dtype":"U8","shape":[1])"), 1, "has no data_offsets"},
    {One(R"("dtype":"F33","shape":[1],"data_offsets":[0,4])"), 4, "unknown dtype 'F33'"},
    {One(R"("dtype":"f32","shape":[1],"data_offsets":[0,4])"), 4, "unknown dtype 'f32'"},
    {One(R"("dtype":"F4","shape":[3],"data_offsets":[0,1])"), 1, "sub-byte dtype 'F4'"},
    {One(R"("dtype":"F6_E2M3","shape":[1],"data_offsets":[0,1])"), 1, "sub-byte dtype 'F6_E2M3'"},
    {One(R"("dtype":1,"shape":[1],"data_offsets":[0,1])"), 1, "a number as its dtype"},
    {One(R"("dtype":"U8","shape":1,"data_offsets":[0,1])"), 1, "a number as its shape"},
    {One(R"("dtype":"U8","shape":"x","data_offsets":[0,1])"), 1, "a string as its shape"},
    {One(R"("dtype":"U8","shape":["1"],"data_offsets":[0,1])"), 1, "a string in its shape"},
    {One(R"("dtype":"U8","shape":[null],"data_offsets":[0,1])"), 1, "null in its shape"},
    {One(R"("dtype":"U8","shape":[1.0],"data_offsets":[0,1])"), 1, "the number 1.0"},
    {One(R"("dtype":"U8","shape":[1e0],"data_offsets":[0,1])"), 1, "the number 1e0"},
    {One(R"("dtype":"U8","shape":[-1],"data_offsets":[0,1])"), 1, "negative number -1"},
    {One(R"("dtype":"U8","shape":[-2,-3],"data_offsets":[0,6])"), 6, "negative number -2"},
    {One(R"("dtype":"U8","shape":[1],"data_offsets":[1])"), 1, "has 1 data_offsets"},
    {One(R"("dtype":"U8","shape":[1],"data_offsets":[])"), 1, "has 0 data_offsets"},
    {One(R"("dtype":"U8","shape":[1],"data_offsets":[0,1,2])"), 1, "more than two data_offsets"},
    {One(R"("dtype":"U8","shape":[1],"data_offsets":[-1,0])"), 1, "negative number -1"},
    {One(R"("dtype":"U8","shape":[1],"data_offsets":[0,1.5])"), 1, "the number 1.5"},
    {One(R"("dtype":"U8","shape":[1],"data_offsets":true)"), 1, "true or false as its data_offs"},
    {One(R"("dtype":"U8","shape":[1],"data_offsets":{"0":0})"), 1, "an object as its data_offs"},
    // Ranges.
    {One(R"("dtype":"U8","shape":[1],"data_offsets":[1,0])"), 1, "reversed data_offsets [1,0]"},
    {One(R"("dtype":"U8","shape":[2],"data_offsets":[0,2])"), 1, "ends at data byte 2, past the 1"},
    {One(R"("dtype":"U8","shape":[1],"data_offsets":[18446744073709551615,18446744073709551615])"),
     1, "expected less than 2^63"},
    {One(R"("dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551616])"), 1, "below 2^63"},
    {One(R"("dtype":"U8","shape":[1],"data_offsets":[9223372036854775807,9223372036854775807])"), 1,
     "past the 1 bytes"},
    {One(R"("dtype":"F32","shape":[2],"data_offsets":[0,7])"), 7, "7 bytes, expected 8"},
    {One(R"("dtype":"F32","shape":[2,0],"data_offsets":[0,8])"), 8, "8 bytes, expected 0"},
    {One(R"("dtype":"F32","shape":[],"data_offsets":[0,0])"), 0, "0 bytes, expected 4"},
    {One(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0])"), 0, "overflows"},
    {One(R"("dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0])"), 0, "overflows"},
    {One(R"("dtype":"U8","shape":[0,4294967296,4294967296],"data_offsets":[0,0])"), 0, "overflow"},
    {One(R"("dtype":"U8","shape":[4294967296,4294967296,0],"data_offsets":[0,0])"), 0, "overflow"},
    {One(R"("dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,0])"), 0, "2^63"},
    // Tiling.
    {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
     R"("b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
     8, "tensor 'b' at data byte 2 overlaps tensor 'a', which ends at 4"},
    {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
     R"("b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
     8, "overlaps"},
    {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
     R"("b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
     4, "tensor 'b' overlaps tensors before it"},
    {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
     R"("b":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}})",
     4, "overlaps"},
    {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
     R"("b":{"dtype":"U8","shape":[2],"data_offsets":[6,8]}})",
     8, "data bytes 4 to 6 before tensor 'b' belong to no tensor"},
    {One(R"("dtype":"U8","shape":[1],"data_offsets":[1,2])"), 2, "data bytes 0 to 1 before"},
    {One(R"("dtype":"U8","shape":[1],"data_offsets":[0,1])"), 3, "last 2 bytes of the file belong"},
    {"{}", 1, "last 1 bytes of the file belong"},
};

TEST(SafetensorsHeaderTest, ReadsTheFixedForm) {
  const auto header = ParseSafetensorsHeader(
      R"({"__metadata__":{"format":"pt","é":"\u4e2d"}, "b":{"shape":[2,0,3],"dtype":"I8",)"
      R"("data_offsets":[8,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
      R"("":{"dtype":"F64","shape":[],"data_offsets":[8,16]}})",
      16);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->metadata.at("format"), "pt");
  EXPECT_EQ(header->metadata.at("é"), "中");
  ASSERT_EQ(header->tensors.size(), 3u);
  EXPECT_EQ(header->tensors.at("a"), (SafetensorsTensor{at::kFloat, {2}, 0, 8}));
  EXPECT_EQ(header->tensors.at("b"), (SafetensorsTensor{at::kChar, {2, 0, 3}, 8, 0}));
  EXPECT_EQ(header->tensors.at(""), (SafetensorsTensor{at::kDouble, {}, 8, 8}));
  EXPECT_TRUE(ParseSafetensorsHeader("{}", 0).ok());
}

TEST(SafetensorsHeaderTest, EveryHostileHeaderGetsOneLine) {
  for (const Hostile& hostile : kHostileHeaders) {
    const auto header = ParseSafetensorsHeader(hostile.header, hostile.data_bytes);
    const std::string text = hostile.header.substr(0, 200);
    ASSERT_FALSE(header.ok()) << text;
    EXPECT_EQ(header.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_TRUE(absl::StrContains(header.status().message(), hostile.expected)) << text << "\n"
                                                                                << header.status();
    EXPECT_FALSE(absl::StrContains(header.status().message(), "\n")) << text;
    EXPECT_LT(header.status().message().size(), 600u) << text;
  }
}

TEST(SafetensorsHeaderTest, NamesInMessagesAreHarmless) {
  const std::string name = "bell \\u0007 line \\n " + std::string(5000, 'x');
  const auto header = ParseSafetensorsHeader("{\"" + name + "\":1}", 0);
  const std::string_view message = header.status().message();
  EXPECT_TRUE(absl::StrContains(message, "bell \\x07 line \\n xxx")) << message;
  EXPECT_LT(message.size(), 300u);
}

TEST(SafetensorsHeaderTest, EveryCutOfAValidHeaderIsRefused) {
  const std::string valid =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}})";
  ASSERT_TRUE(ParseSafetensorsHeader(valid, 8).ok());
  for (size_t length = 0; length < valid.size(); ++length) {
    EXPECT_FALSE(ParseSafetensorsHeader(valid.substr(0, length), 8).ok()) << length;
  }
}

// Whatever random edits make of a header: it is refused, or its tensors tile the data and have the
// bytes that their shapes say.
TEST(SafetensorsHeaderTest, RandomEditsNeverGetAWrongHeaderThrough) {
  constexpr uint64_t kDataBytes = 24;
  const std::string valid =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
      R"("b":{"dtype":"I16","shape":[4],"data_offsets":[8,16]},)"
      R"("c":{"dtype":"U8","shape":[8],"data_offsets":[16,24]}})";
  // Sized by hand: a string_view of a literal would end at its NUL.
  static constexpr char kLiteral[] = "{}[],:\"\\0123456789-.eEaFIU8 \n\t\x00\x80\xff";
  constexpr std::string_view kBytes(kLiteral, sizeof kLiteral - 1);
  static_assert(kBytes.back() == '\xff');
  std::mt19937 random(5);
  int num_accepted = 0;
  for (int round = 0; round < 200000; ++round) {
    std::string header = valid;
    for (int edit = 1 + static_cast<int>(random() % 4); edit > 0; --edit) {
      const size_t at = random() % header.size();
      switch (random() % 4) {
        case 0:
          header[at] = kBytes[random() % kBytes.size()];
          break;
        case 1:
          header.insert(at, 1, kBytes[random() % kBytes.size()]);
          break;
        case 2:
          header.erase(at, 1 + random() % 3);
          break;
        case 3:
          header.insert(random() % header.size(), header.substr(at, random() % 60));
          break;
      }
      if (header.empty()) header = "{";
    }
    const auto parsed = ParseSafetensorsHeader(header, kDataBytes);
    if (!parsed.ok()) {
      ASSERT_FALSE(absl::StrContains(parsed.status().message(), "\n")) << parsed.status();
      continue;
    }
    ++num_accepted;
    std::vector<int> owners(kDataBytes, 0);
    for (const auto& [name, tensor] : parsed->tensors) {
      uint64_t bytes = c10::elementSize(tensor.dtype);
      for (const int64_t size : tensor.shape) bytes *= size;
      ASSERT_EQ(bytes, tensor.num_bytes) << header;
      ASSERT_LE(tensor.offset + tensor.num_bytes, kDataBytes) << header;
      for (uint64_t i = 0; i < tensor.num_bytes; ++i) ++owners[tensor.offset + i];
    }
    ASSERT_EQ(owners, std::vector<int>(kDataBytes, 1)) << header;
  }
  EXPECT_GT(num_accepted, 1000);  // so the checks above were made
}

TEST(SafetensorsHeaderTest, DtypeNamesGoBothWays) {
  for (const char* name : {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL",
                           "U16", "U32", "U64", "C64", "F8_E4M3", "F8_E5M2", "F8_E8M0"}) {
    const auto dtype = SafetensorsDtype(name);
    ASSERT_TRUE(dtype.has_value()) << name;
    EXPECT_EQ(SafetensorsDtypeName(*dtype), name);
  }
  EXPECT_EQ(SafetensorsDtypeName(at::kQInt8), std::nullopt);
}

}  // namespace
}  // namespace lathe
