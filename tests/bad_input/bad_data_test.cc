// Broken and missing training texts.

#include <sys/stat.h>

#include <filesystem>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/tests/bad_input/refusal.h"
#include "lathe/tests/process/program.h"
#include "lathe/tests/process/tiny_pretraining.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

const char* const kBadLines[] = {
    "{\"text\": \"no end",
    "no JSON",
    "{\"text\": \"two\"} {\"text\": \"objects\"}",
    "[\"text\"]",
    "\"text\"",
    "3",
    "{}",
    "{\"Text\": \"another case\"}",
    "{\"text\": null}",
    "{\"text\": 3}",
    "{\"text\": [\"a\"]}",
    "{\"text\": \"not UTF-8: \xff\xfe\"}",
    "{\"text\": \"half a pair: \\ud800\"}",
    "{\"text\": \"a raw tab:\t\"}",
    "{\"text\": NaN}",
};

class BadDataTest : public testing::Test {
 protected:
  ProgramEnd Run(const std::vector<std::string>& more) const {
    return RunProgram(kPretrain, {.arguments = tiny_.Flags(out_, more)});
  }

  void Expect(const std::vector<std::string>& more, const std::vector<std::string>& words) const {
    ExpectRefusal(Run(more), words, out_);
  }

  // The good file with `line` as its line 18.
  std::string FileWith(const std::string& line) const {
    const std::string good = ReadFile(tiny_.train_file());
    size_t at = 0;
    for (int i = 0; i < 17; ++i) at = good.find('\n', at) + 1;
    const std::string path = folder_ + "/bad.jsonl";
    WriteFile(path, absl::StrCat(good.substr(0, at), line, "\n", good.substr(at)));
    return path;
  }

  const std::string folder_ = NewFolder();
  const TinyPretraining tiny_{folder_};
  const std::string out_ = folder_ + "/out";
};

TEST_F(BadDataTest, BadLineIsNamed) {
  for (const char* line : kBadLines) {
    SCOPED_TRACE(line);
    const std::string file = FileWith(line);
    Expect({"--train_files", file}, {file + ":18"});
  }
}

// As power cuts leave: parsers of C strings stop there.
TEST_F(BadDataTest, TailOfZeros) {
  const std::string file = FileWith("{\"text\": \"kept\"}" + std::string(4096, '\0'));
  Expect({"--train_files", file}, {file + ":18", "NUL"});
}

TEST_F(BadDataTest, DeeplyNestedLine) {
  const std::string file = FileWith("{\"other\": " + std::string(5'000'000, '['));
  Expect({"--train_files", file}, {file + ":18"});
}

TEST_F(BadDataTest, BadLinesAreSkippedAndCounted) {
  std::string bad;
  for (const char* line : kBadLines) absl::StrAppend(&bad, line, "\n");
  const std::string file = FileWith(bad);
  const ProgramEnd end = Run({"--train_files", file, "--on_bad_record", "skip"});
  EXPECT_EQ(end.exit_code, 0) << end.Text();
  EXPECT_TRUE(end.Says(absl::StrCat(std::size(kBadLines), " bad lines were skipped")))
      << end.Text();
  // What is left trains like the good file alone.
  const std::string other = folder_ + "/good";
  ASSERT_EQ(RunProgram(kPretrain, {.arguments = tiny_.Flags(other)}).exit_code, 0);
  EXPECT_TRUE(ReadFile(out_ + "/model.safetensors") == ReadFile(other + "/model.safetensors"));
}

TEST_F(BadDataTest, NothingIsLeftAfterSkipping) {
  const std::string file = folder_ + "/bad.jsonl";
  WriteFile(file, "no JSON\n\n{}\n");
  Expect({"--train_files", file, "--on_bad_record", "skip"}, {file, "empty", "2 bad lines"});
}

TEST_F(BadDataTest, EmptyDataSet) {
  WriteFile(folder_ + "/empty.jsonl", "");
  Expect({"--train_files", folder_ + "/empty.jsonl"}, {folder_ + "/empty.jsonl", "empty"});
  WriteFile(folder_ + "/blank.jsonl", "\n  \n\r\n");
  Expect({"--train_files", folder_ + "/blank.jsonl"}, {folder_ + "/blank.jsonl", "empty"});
  WriteFile(folder_ + "/no_text.jsonl", "{\"text\": \"\"}\n");
  Expect({"--train_files", folder_ + "/no_text.jsonl"}, {"block_size"});
  Expect({"--eval_strategy", "epoch", "--validation_files", folder_ + "/empty.jsonl"},
         {folder_ + "/empty.jsonl", "empty"});
}

TEST_F(BadDataTest, BlockSizeLongerThanTheData) {
  Expect({"--block_size", "5000"}, {"block_size", "5000", "1600"});
  Expect({"--block_size", "2000000000"}, {"block_size"});
  Expect({"--eval_strategy", "epoch", "--validation_files", tiny_.validation_file(), "--block_size",
          "401"},
         {"block_size", "401", "400"});
  Expect({"--dataloader_drop_last", "--per_device_train_batch_size", "64"},
         {"--dataloader_drop_last"});
}

TEST_F(BadDataTest, UnusableFiles) {
  Expect({"--train_files", folder_ + "/absent.jsonl"}, {folder_ + "/absent.jsonl", "No such file"});
  Expect({"--train_files", folder_}, {folder_, "folder"});
  ASSERT_EQ(mkfifo((folder_ + "/pipe.jsonl").c_str(), 0600), 0);
  Expect({"--train_files", folder_ + "/pipe.jsonl"}, {folder_ + "/pipe.jsonl"});
  Expect({"--train_files", "/dev/zero"}, {"/dev/zero"});
  WriteFile(folder_ + "/text.txt", "plain text");
  Expect({"--train_files", folder_ + "/text.txt"}, {folder_ + "/text.txt"});
  WriteFile(folder_ + "/array.json", "[{\"text\": \"a\"}]");
  Expect({"--train_files", folder_ + "/array.json"}, {folder_ + "/array.json"});
  Expect({"--text_column_name", "content"}, {tiny_.train_file() + ":1", "content", "text"});
}

// A line of 600 MB in one piece: it is refused before it is read into memory.
TEST_F(BadDataTest, HugeLine) {
  const std::string file = folder_ + "/huge.jsonl";
  WriteFile(file, "{\"text\": \"");
  fs::resize_file(file, 600'000'000);  // zeros, which take no disk
  Expect({"--train_files", file}, {file + ":1"});
}

TEST_F(BadDataTest, AllRanksFailAlike) {
  const std::string file = FileWith("no JSON");
  ExpectRefusal(Run({"--train_files", file, "--nproc_per_node", "2"}), {file + ":18"}, out_, 2);
  Expect({"--block_size", "5000", "--preprocessing_num_workers", "4"}, {"block_size"});
  WriteFile(tiny_.model_folder() + "/tokenizer.json", "{");
  ExpectRefusal(Run({"--nproc_per_node", "2"}), {"tokenizer.json"}, out_, 2);
  fs::remove(tiny_.model_folder() + "/config.json");
  ExpectRefusal(Run({"--nproc_per_node", "2"}), {"config.json"}, out_, 2);
}

}  // namespace
}  // namespace lathe
