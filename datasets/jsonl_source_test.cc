#include "lathe/datasets/jsonl_source.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

std::string WriteFile(std::string_view name, std::string_view content) {
  const std::string path = absl::StrCat(testing::TempDir(), "/", name);
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

std::vector<std::string> Texts(const JsonlSource& source) {
  std::vector<std::string> texts;
  for (int64_t i = 0; i < source.size(); ++i) texts.push_back(*source.Text(i));
  return texts;
}

using Strings = std::vector<std::string>;

TEST(JsonlSource, ReadsFilesAndLinesInOrder) {
  const std::string a = WriteFile("a.jsonl", "{\"text\":\"1\"}\n\n  \t\n{\"text\":\"2\"}\r\n\r\n");
  const std::string blank = WriteFile("blank.jsonl", "\n\n");
  const std::string empty = WriteFile("empty.json", "");
  const std::string b = WriteFile("b.JSON", "\xef\xbb\xbf{\"text\":\"3\"}\n{\"text\":\"\"}");
  const auto source = JsonlSource::Open({a, blank, empty, b, a}, {});
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ(Texts(*source), (Strings{"1", "2", "3", "", "1", "2"}));
  EXPECT_EQ(source->num_skipped(), 0);
  EXPECT_EQ(source->num_bytes(), 12 + 13 + 15 + 11 + 12 + 13);
  EXPECT_EQ(source->Where(0), a + ":1");
  EXPECT_EQ(source->Where(1), a + ":4");
  EXPECT_EQ(source->Where(3), b + ":2");
  EXPECT_EQ(source->Where(5), a + ":4");
}

// Lines that begin and end at every place of the reader's buffer of 1 MiB.
TEST(JsonlSource, LinesCrossTheReadersBuffer) {
  for (int shift = -3; shift <= 3; ++shift) {
    const std::string first(1024 * 1024 - 11 + shift, 'a');  // 11 bytes around it
    const std::string second(3 * 1024 * 1024, 'b');
    const std::string path =
        WriteFile("long.jsonl", absl::StrCat("{\"text\":\"", first, "\"}\n{\"text\":\"", second,
                                             "\"}\n\n{\"text\":\"c\"}\n{\"text\":\"d\"}"));
    const auto source = JsonlSource::Open({path}, {});
    ASSERT_TRUE(source.ok());
    EXPECT_EQ(Texts(*source), (Strings{first, second, "c", "d"}));
    EXPECT_EQ(source->Where(3), path + ":5");
  }
}

constexpr std::string_view kBadLines =
    "{\"text\":\"1\"}\n{\"text\":\n{\"body\":\"x\"}\n\n{\"text\":\"\xff\"}\n{\"text\":2}\n"
    "{\"text\":\"3\"}\n";

TEST(JsonlSource, FailNamesFileAndLine) {
  const std::string path = WriteFile("bad.jsonl", kBadLines);
  const auto source = JsonlSource::Open({path}, {});
  ASSERT_TRUE(source.ok());
  ASSERT_EQ(source->size(), 6);
  EXPECT_EQ(*source->Text(0), "1");
  EXPECT_EQ(*source->Text(5), "3");
  const int lines[] = {2, 3, 5, 6};
  for (int i = 0; i < 4; ++i) {
    const absl::Status status = source->Text(i + 1).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message().find(absl::StrCat(path, ":", lines[i], ": ")), 0) << status;
  }
}

TEST(JsonlSource, SkipCounts) {
  const std::string path = WriteFile("bad.jsonl", kBadLines);
  const std::string good = WriteFile("good.jsonl", "{\"text\":\"4\"}\n");
  const auto source = JsonlSource::Open({path, good}, {.on_bad_record = OnBadRecord::kSkip});
  ASSERT_TRUE(source.ok());
  EXPECT_EQ(Texts(*source), (Strings{"1", "3", "4"}));
  EXPECT_EQ(source->num_skipped(), 4);
  EXPECT_EQ(source->num_bytes(), 36);
  EXPECT_EQ(source->Where(1), path + ":7");
}

TEST(JsonlSource, LongLines) {
  const std::string path =
      WriteFile("lines.jsonl", "{\"text\":\"1\"}\n{\"text\":\"a long line\"}\n{\"text\":\"2\"}\n");
  const absl::Status status = JsonlSource::Open({path}, {.max_line_bytes = 20}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), path + ":2: the line has 22 bytes; at most 20 are read");
  const auto source =
      JsonlSource::Open({path}, {.on_bad_record = OnBadRecord::kSkip, .max_line_bytes = 20});
  EXPECT_EQ(Texts(*source), (Strings{"1", "2"}));
  EXPECT_EQ(source->num_skipped(), 1);
}

// 1 GiB and more without a line break, mostly a hole: refused without being held in memory.
TEST(JsonlSource, AHugeLineIsRefused) {
  const std::string path = WriteFile("huge.jsonl", "{\"text\":\"1\"}\n{\"text\":\"");
  ASSERT_EQ(truncate(path.c_str(), (int64_t{1} << 30) + 100), 0);
  const absl::Status status = JsonlSource::Open({path}, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message().find(path + ":2: the line has 1073741911 bytes"), 0) << status;
  unlink(path.c_str());
}

void ExpectRefused(const std::vector<std::string>& files, absl::StatusCode code,
                   std::string_view part) {
  const absl::Status status = JsonlSource::Open(files, {}).status();
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_NE(status.message().find(part), std::string::npos) << status;
  if (!files.empty()) EXPECT_NE(status.message().find(files.back()), std::string::npos) << status;
}

TEST(JsonlSource, RefusesOtherFiles) {
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  const std::string good = WriteFile("good.jsonl", "{\"text\":\"1\"}\n");
  ExpectRefused({}, kInvalid, "no data files");
  ExpectRefused({good, testing::TempDir() + "/missing.jsonl"}, absl::StatusCode::kNotFound,
                "cannot be opened");
  const std::string folder = testing::TempDir() + "/folder.jsonl";
  mkdir(folder.c_str(), 0777);
  ExpectRefused({good, folder}, kInvalid, "is a folder");
  ExpectRefused({"/dev/null"}, kInvalid, "no regular file");
  ExpectRefused({WriteFile("a.txt", "text")}, kInvalid, "must end in .jsonl or .json");
  ExpectRefused({WriteFile("gz.jsonl", "\x1f\x8b\x08")}, kInvalid, "compressed");
  ExpectRefused({WriteFile("zst.jsonl", "\x28\xb5\x2f\xfd")}, kInvalid, "compressed");
  ExpectRefused({WriteFile("utf16.jsonl", "\xff\xfe{")}, kInvalid, "UTF-16");
  ExpectRefused({WriteFile("array.json", "\n [{\"text\": \"1\"}]")}, kInvalid, "JSON array");
  ExpectRefused({WriteFile("empty.jsonl", "")}, kInvalid, "the data set is empty");
  ExpectRefused({WriteFile("blank.jsonl", " \n\n")}, kInvalid, "the data set is empty");
  const absl::Status status =
      JsonlSource::Open({WriteFile("bad.jsonl", "x\ny\n")}, {.on_bad_record = OnBadRecord::kSkip})
          .status();
  EXPECT_NE(status.message().find("2 bad lines"), std::string::npos) << status;
}

TEST(JsonlSource, AFileCutShortIsAnError) {
  const std::string path = WriteFile("cut.jsonl", "{\"text\":\"1\"}\n{\"text\":\"2\"}\n");
  const auto source = JsonlSource::Open({path}, {});
  ASSERT_TRUE(source.ok());
  ASSERT_EQ(truncate(path.c_str(), 16), 0);
  EXPECT_EQ(*source->Text(0), "1");
  EXPECT_EQ(source->Text(1).status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace lathe
