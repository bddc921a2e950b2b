#include "lathe/checkpoint/safetensors.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <iostream>
#include <string>

#include "ATen/ops/arange.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/full.h"
#include "ATen/ops/zeros.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/checkpoint/safetensors_writer.h"
#include "lathe/checkpoint/thread_ranks.h"

namespace lathe {
namespace {

std::string WriteBytes(const std::string& path, std::string_view bytes) {
  const PosixFile file = *PosixFile::Create(path);
  EXPECT_TRUE(file.WriteAt(0, bytes).ok());
  return path;
}

std::string LengthBytes(uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes;
}

// A file with this header and data.
std::string FileBytes(std::string_view header, std::string_view data) {
  return absl::StrCat(LengthBytes(header.size()), header, data);
}

constexpr std::string_view kHeader = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                                     R"("b":{"dtype":"I64","shape":[1],"data_offsets":[8,16]}})";

void ExpectRefused(const std::string& path, std::string_view expected) {
  const absl::Status status = SafetensorsFile::Open(path).status();
  ASSERT_FALSE(status.ok()) << expected;
  EXPECT_TRUE(absl::StrContains(status.message(), path)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), expected)) << status;
  EXPECT_FALSE(absl::StrContains(status.message(), "\n")) << status;
}

TEST(SafetensorsTest, HostileFilesGetOneLine) {
  const std::string folder = FreshFolder();
  int count = 0;
  const auto refused = [&](std::string_view bytes, std::string_view expected) {
    ExpectRefused(WriteBytes(absl::StrCat(folder, "/", count++), bytes), expected);
  };
  refused("", "the file has 0 bytes");
  refused("1234567", "the file has 7 bytes");
  refused(LengthBytes(0), "does not start with '{'");
  refused(LengthBytes(1), "said to have 1 bytes, but 0 follow");
  refused(absl::StrCat(LengthBytes(100), "{}"), "said to have 100 bytes, but 2 follow");
  for (const uint64_t length : {UINT64_MAX, UINT64_MAX - 7, UINT64_MAX - 8, uint64_t{1} << 63}) {
    refused(absl::StrCat(LengthBytes(length), kHeader), "no safetensors file, or cut off");
  }
  refused("PK\x03\x04 a zip file, which torch.save writes", "no safetensors file, or cut off");
  refused(FileBytes("    ", ""), "does not start with '{'");
  refused(FileBytes(kHeader, std::string(15, 'x')), "tensor 'b' ends at data byte 16, past the 15");
  refused(FileBytes(kHeader, std::string(17, 'x')),
          "the last 1 bytes of the file belong to no tensor");

  ExpectRefused(folder, "is not a regular file");
  ExpectRefused(folder + "/absent", "No such file");
  const std::string pipe = folder + "/pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  ExpectRefused(pipe, "is not a regular file");  // and does not wait for a writer

  // A header of more than 100 MB that is there (as a hole in the file).
  const std::string large = WriteBytes(folder + "/large", LengthBytes(100'000'001));
  ASSERT_EQ(truncate(large.c_str(), 200'000'000), 0);
  ExpectRefused(large, "at most 100000000 are allowed");
}

TEST(SafetensorsTest, EveryCutOfAFileIsRefused) {
  const std::string folder = FreshFolder();
  const std::string bytes = FileBytes(kHeader, std::string(16, 'x'));
  ASSERT_TRUE(SafetensorsFile::Open(WriteBytes(folder + "/whole", bytes)).ok());
  const std::string path = WriteBytes(folder + "/cut", bytes);
  for (size_t length = bytes.size(); length-- > 0;) {
    ASSERT_EQ(truncate(path.c_str(), static_cast<off_t>(length)), 0);
    EXPECT_FALSE(SafetensorsFile::Open(path).ok()) << length;
  }
}

// Opens in a process of its own and returns what Open said, the peak of resident memory and the
// time.
struct Cost {
  bool ok = false;
  bool exited = false;
  int64_t peak_bytes = 0;
  double seconds = 0;
};

Cost OpenInOtherProcess(const std::string& path) {
  const pid_t child = fork();
  if (child == 0) _exit(SafetensorsFile::Open(path).ok() ? 0 : 1);
  int state = 0;
  rusage usage = {};
  EXPECT_EQ(wait4(child, &state, 0, &usage), child);
  const double seconds = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
                         1e-6 * (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
  return {.ok = WIFEXITED(state) && WEXITSTATUS(state) == 0,
          .exited = WIFEXITED(state),
          .peak_bytes = int64_t{usage.ru_maxrss} * 1024,
          .seconds = seconds};
}

// Headers of the largest size that is read, made when their turn comes.
constexpr size_t kLargest = kMaxSafetensorsHeaderBytes;
struct LargeHeader {
  std::string_view what;
  std::function<std::string()> header;
  bool ok;
};

std::string Repeated(std::string head, const std::function<std::string(int)>& item,
                     std::string_view tail) {
  for (int i = 0; head.size() < kLargest - 400; ++i) head += item(i);
  return head + std::string(tail);
}

std::string Filled(std::string_view head, char filler, std::string_view tail) {
  return absl::StrCat(head, std::string(kLargest - head.size() - tail.size(), filler), tail);
}

std::string TensorEntry(int i, std::string_view fields) {
  return absl::StrCat("\"", absl::Hex(i), "\":{", fields, "},");
}
const LargeHeader kLargeHeaders[] = {
    {"deep arrays", [] { return Filled("{\"a\":", '[', ""); }, false},
    {"deep objects", [] { return Repeated("{", [](int) { return "\"a\":{"; }, ""); }, false},
    {"line feeds", [] { return Filled("{", '\n', "x}"); }, false},
    {"spaces", [] { return Filled("{", ' ', "\"a\" 1}"); }, false},
    {"one string", [] { return Filled("{\"", 'x', "\":1}"); }, false},
    {"escapes", [] { return Filled("{\"a", '\\', "\":1}"); }, false},
    {"one number", [] { return Filled("{\"a\":", '1', "}"); }, false},
    {"one word", [] { return Filled("{\"a\":t", 't', "}"); }, false},
    {"one shape", [] { return Repeated("{\"a\":{\"shape\":[1", [](int) { return ",1"; }, "]}}"); },
     false},
    {"metadata",
     [] {
       return Repeated(
           "{\"__metadata__\":{", [](int i) { return absl::StrCat("\"", i, "\":\"\","); },
           "\"\":\"\"}}");
     },
     false},
    {"millions of tensors on one range",
     [] {
       return Repeated(
           "{",
           [](int i) { return TensorEntry(i, R"("dtype":"U8","shape":[4],"data_offsets":[0,4])"); },
           R"("":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})");
     },
     false},
    {"millions of empty tensors",
     [] {
       return Repeated(
           "{",
           [](int i) { return TensorEntry(i, R"("dtype":"U8","shape":[0],"data_offsets":[0,0])"); },
           R"("":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})");
     },
     true},
    {"millions of names without a mistake until the end",
     [] {
       return Repeated(
           "{",
           [](int i) { return TensorEntry(i, R"("dtype":"U8","shape":[0],"data_offsets":[0,0])"); },
           R"("":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})");
     },
     false},
};

TEST(SafetensorsTest, TheLargestHostileHeadersStayInsideTimeAndMemory) {
  const std::string path = FreshFolder() + "/file";
  for (const LargeHeader& hostile : kLargeHeaders) {
    {
      const std::string header = hostile.header();
      ASSERT_LE(header.size(), kLargest) << hostile.what;
      WriteBytes(path, FileBytes(header, "data"));
    }
    const Cost cost = OpenInOtherProcess(path);
    EXPECT_TRUE(cost.exited) << hostile.what;
    EXPECT_EQ(cost.ok, hostile.ok) << hostile.what;
    EXPECT_LT(cost.peak_bytes, 1'000'000'000) << hostile.what;
    EXPECT_LT(cost.seconds, 10) << hostile.what;
    std::cout << hostile.what << ": " << cost.peak_bytes / 1'000'000 << " MB, " << cost.seconds
              << " s\n";
    ASSERT_EQ(unlink(path.c_str()), 0);
  }
}

TEST(SafetensorsTest, LoadsAndViewsWhatWasWritten) {
  const std::string path = FreshFolder() + "/file";
  const at::Tensor a = at::arange(12, at::kFloat).view({3, 4});
  const at::Tensor b = at::full({2}, true, at::kBool);
  const at::Tensor c = at::zeros({0, 5}, at::kHalf);
  ASSERT_TRUE(WriteSafetensorsFile(path, {{"a", a}, {"b", b}, {"c", c}}).ok());
  const SafetensorsFile file = *SafetensorsFile::Open(path);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  for (const auto& [name, expected] : {std::pair{"a", a}, {"b", b}, {"c", c}}) {
    for (const auto& loaded : {file.Load(name), file.View(name)}) {
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      EXPECT_EQ(loaded->scalar_type(), expected.scalar_type());
      EXPECT_TRUE(at::equal(*loaded, expected)) << name;
    }
  }
  EXPECT_EQ(file.Load("d").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(file.View("d").status().code(), absl::StatusCode::kNotFound);

  // A view outlives its file object, is private, and leaves the file as it was.
  at::Tensor view;
  {
    const SafetensorsFile other = *SafetensorsFile::Open(path);
    view = *other.View("a");
  }
  view.add_(1);
  EXPECT_TRUE(at::equal(view, a.add(1)));
  EXPECT_TRUE(at::equal(*file.Load("a"), a));
  EXPECT_TRUE(at::equal(*file.View("a"), a));
}

TEST(SafetensorsTest, ATensorThatIsNotAlignedLoadsAndViews) {
  const std::string data = std::string("\0\0\x80\x3f\0\0\0\x40", 8) + std::string("\x07", 1) +
                           std::string("\xff\xff\xff\xff\xff\xff\xff\xff", 8);
  const std::string header =
      R"({"f":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"u":{"dtype":"U8","shape":[1],)"
      R"("data_offsets":[8,9]},"i":{"dtype":"I64","shape":[1],"data_offsets":[9,17]}})";
  const std::string folder = FreshFolder();
  for (int padding = 0; padding < 9; ++padding) {  // the header need not be padded to 8
    const std::string path = WriteBytes(absl::StrCat(folder, "/", padding),
                                        FileBytes(header + std::string(padding, ' '), data));
    const SafetensorsFile file = *SafetensorsFile::Open(path);
    for (const auto& f : {*file.Load("f"), *file.View("f")}) {
      EXPECT_EQ(f[0].item<float>(), 1);
      EXPECT_EQ(f[1].item<float>(), 2);
    }
    for (const auto& i : {*file.Load("i"), *file.View("i")}) EXPECT_EQ(i.item<int64_t>(), -1);
  }
}

TEST(SafetensorsTest, AFileTruncatedAfterOpenIsAnErrorNotASignal) {
  const std::string path = FreshFolder() + "/file";
  ASSERT_TRUE(
      WriteSafetensorsFile(path, {{"a", at::zeros({1 << 20})}, {"z", at::zeros({4})}}).ok());
  const SafetensorsFile file = *SafetensorsFile::Open(path);
  ASSERT_EQ(truncate(path.c_str(), 4096), 0);
  at::Tensor target = at::zeros({1 << 20});
  for (const absl::Status& status :
       {file.Read("a", Box::Whole({1 << 20}), target), file.Load("a").status(),
        file.View("a").status(), file.Load("z").status(), file.View("z").status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), path)) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "truncated")) << status;
  }
}

}  // namespace
}  // namespace lathe
