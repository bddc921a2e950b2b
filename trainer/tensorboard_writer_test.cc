#include "lathe/trainer/tensorboard_writer.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/crc/crc32c.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tensorboardX/proto/event.pb.h"

namespace lathe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

std::string NewDirectory(const std::string& name) {
  const std::string directory = ::testing::TempDir() + "/" + name + "/runs/now";
  std::filesystem::remove_all(directory);
  return directory;
}

// A reader that knows nothing of the writer: the format as the header describes it.
std::vector<tensorboardX::Event> Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto crc_at = [&](size_t at) {
    uint32_t crc;
    std::memcpy(&crc, bytes.data() + at, 4);
    return crc;
  };
  const auto masked = [&](size_t at, size_t count) {
    const uint32_t crc =
        static_cast<uint32_t>(absl::ComputeCrc32c(std::string_view(bytes).substr(at, count)));
    return static_cast<uint32_t>(((crc >> 15) | (crc << 17)) + 0xa282ead8u);
  };
  std::vector<tensorboardX::Event> events;
  for (size_t at = 0; at < bytes.size();) {
    uint64_t length;
    std::memcpy(&length, bytes.data() + at, 8);
    EXPECT_EQ(crc_at(at + 8), masked(at, 8));
    EXPECT_EQ(crc_at(at + 12 + length), masked(at + 12, length));
    events.emplace_back();
    EXPECT_TRUE(events.back().ParseFromString(bytes.substr(at + 12, length)));
    at += 16 + length;
  }
  return events;
}

// Record of the payload "brain.Event:2" in its message, as TensorFlow 2 writes it (wall_time 0).
TEST(FrameRecordTest, KnownAnswer) {
  // CRC-32C of "123456789" is 0xe3069283 (RFC 3720); masked 0x2507c7a6 + 0xa282ead8 - 2^32 ...
  // below by hand:
  const uint32_t crc = 0xe3069283;
  const uint32_t masked = ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
  const std::string record = tensorboard_internal::FrameRecord("123456789");
  ASSERT_EQ(record.size(), 8u + 4 + 9 + 4);
  EXPECT_EQ(record.substr(0, 8), std::string("\x09\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(record.substr(12, 9), "123456789");
  uint32_t stored;
  std::memcpy(&stored, record.data() + 21, 4);
  EXPECT_EQ(stored, masked);
}

TEST(TensorBoardWriterTest, WritesWhatAReaderReads) {
  const std::string directory = NewDirectory("scalars");
  auto writer = TensorBoardWriter::Create(directory);
  ASSERT_TRUE(writer.ok()) << writer.status();
  EXPECT_THAT((*writer)->path(),
              MatchesRegex(".*/events\\.out\\.tfevents\\.[0-9]+\\..+\\.[0-9]+\\.[0-9]+"));
  ASSERT_TRUE((*writer)->AddText(0, "args", "{\"seed\": 42}").ok());
  ASSERT_TRUE((*writer)->AddScalars(10, {{"train/loss", 2.5}, {"train/epoch", 0.125}}).ok());
  // A reader sees every call at once, without Close.
  EXPECT_EQ(Read((*writer)->path()).size(), 3u);
  ASSERT_TRUE((*writer)->AddRestart(8).ok());
  ASSERT_TRUE((*writer)->Close().ok());

  const std::vector<tensorboardX::Event> events = Read((*writer)->path());
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0].file_version(), "brain.Event:2");
  EXPECT_GT(events[0].wall_time(), 1.7e9);
  EXPECT_EQ(events[1].summary().value(0).tag(), "args/text_summary");
  EXPECT_EQ(events[1].summary().value(0).tensor().string_val(0), "{\"seed\": 42}");
  EXPECT_EQ(events[2].step(), 10);
  ASSERT_EQ(events[2].summary().value_size(), 2);
  EXPECT_EQ(events[2].summary().value(0).tag(), "train/loss");
  EXPECT_EQ(events[2].summary().value(0).simple_value(), 2.5f);
  EXPECT_EQ(events[2].summary().value(1).simple_value(), 0.125f);
  EXPECT_EQ(events[3].session_log().status(), tensorboardX::SessionLog::START);
  EXPECT_EQ(events[3].step(), 8);
}

TEST(TensorBoardWriterTest, TwoWritersHaveTwoFiles) {
  const std::string directory = NewDirectory("two");
  auto first = TensorBoardWriter::Create(directory);
  auto second = TensorBoardWriter::Create(directory);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_NE((*first)->path(), (*second)->path());
}

TEST(TensorBoardWriterTest, AFolderThatCannotBeMadeIsNamed) {
  const auto writer = TensorBoardWriter::Create("/proc/nowhere/runs");
  ASSERT_FALSE(writer.ok());
  EXPECT_THAT(std::string(writer.status().message()), HasSubstr("/proc/nowhere/runs"));
}

TEST(TensorBoardWriterTest, AFullDiskIsAnErrorThatNamesTheFile) {
  auto writer = TensorBoardWriter::Create(NewDirectory("full"));
  ASSERT_TRUE(writer.ok());
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit old_limit;
  getrlimit(RLIMIT_FSIZE, &old_limit);
  const rlimit small = {100, old_limit.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const absl::Status status = (*writer)->AddScalars(1, {{std::string(200, 'x'), 1}});
  setrlimit(RLIMIT_FSIZE, &old_limit);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr((*writer)->path()));
}

TEST(TensorBoardTagTest, AsHuggingFaceRewritesKeys) {
  EXPECT_EQ(TensorBoardTag("loss"), "train/loss");
  EXPECT_EQ(TensorBoardTag("train_loss"), "train/train_loss");
  EXPECT_EQ(TensorBoardTag("eval_loss"), "eval/loss");
  EXPECT_EQ(TensorBoardTag("eval_runtime"), "eval/runtime");
  EXPECT_EQ(TensorBoardTag("test_loss"), "test/loss");
}

TEST(TensorBoardRunNameTest, HasHuggingFacesForm) {
  EXPECT_THAT(TensorBoardRunName(),
              MatchesRegex("[A-Z][a-z][a-z][0-9][0-9]_[0-9][0-9]-[0-9][0-9]-[0-9][0-9]_.+"));
}

}  // namespace
}  // namespace lathe
