#include "lathe/checkpoint/manifest.h"

#include <unistd.h>

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/checkpoint/atomic_directory.h"
#include "lathe/checkpoint/atomic_file.h"
#include "lathe/checkpoint/posix_file.h"
#include "lathe/checkpoint/thread_ranks.h"

namespace lathe {
namespace {

// A complete folder with files "a" and "b", 100 bytes each.
std::string CompleteFolder() {
  const std::string parent = FreshFolder();
  auto directory = *AtomicDirectory::Create(parent, "checkpoint-1");
  directory->WriteFile("a", std::string(100, 'a'));
  directory->WriteFile("b", std::string(100, 'b'));
  EXPECT_TRUE(directory->Commit().ok());
  return parent + "/checkpoint-1";
}

void ExpectDamaged(const std::string& folder, std::string_view expected) {
  const absl::Status status = VerifyManifest(folder);
  EXPECT_FALSE(status.ok());
  EXPECT_TRUE(absl::StrContains(status.message(), folder)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), expected)) << status;
}

TEST(ManifestTest, EveryFlippedBitIsSeen) {
  const std::string folder = CompleteFolder();
  ASSERT_TRUE(VerifyManifest(folder).ok());
  for (int bit = 0; bit < 800; ++bit) {
    std::string content(100, 'b');
    content[bit / 8] ^= 1 << (bit % 8);
    ASSERT_TRUE(WriteFileAtomically(folder + "/b", content).ok());
    ExpectDamaged(folder, "is damaged: b has checksum ");
  }
}

TEST(ManifestTest, MissingAndResizedFilesAreNamed) {
  const std::string folder = CompleteFolder();
  ASSERT_EQ(truncate((folder + "/a").c_str(), 99), 0);
  ASSERT_EQ(unlink((folder + "/b").c_str()), 0);
  ExpectDamaged(folder, "is damaged: a has 99 bytes, expected 100; b is missing");
  ASSERT_EQ(unlink((folder + "/lathe_manifest.json").c_str()), 0);
  EXPECT_EQ(VerifyManifest(folder).code(), absl::StatusCode::kNotFound);
}

TEST(ManifestTest, OtherFilesAreIgnored) {
  const std::string folder = CompleteFolder();
  ASSERT_TRUE(WriteFileAtomically(folder + "/README.md", "mine").ok());
  EXPECT_TRUE(VerifyManifest(folder).ok());
}

TEST(ManifestTest, RoundTrip) {
  const std::string folder = FreshFolder();
  const Manifest manifest = {{"x.safetensors", {1ull << 40, absl::crc32c_t{0x0abcdef1}}},
                             {"中 \"", {0, absl::crc32c_t{0}}}};
  ASSERT_TRUE(WriteFileAtomically(folder + "/lathe_manifest.json", ManifestJson(manifest)).ok());
  const auto read = ReadManifest(folder);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), 2u);
  EXPECT_EQ(read->at("x.safetensors").bytes, 1ull << 40);
  EXPECT_EQ(read->at("x.safetensors").crc32c, absl::crc32c_t{0x0abcdef1});
}

TEST(ManifestTest, MalformedOnesAreRefused) {
  const std::string folder = FreshFolder();
  const auto error = [&](std::string_view json) {
    EXPECT_TRUE(WriteFileAtomically(folder + "/lathe_manifest.json", json).ok());
    const absl::Status status = ReadManifest(folder).status();
    EXPECT_FALSE(status.ok()) << json;
    EXPECT_TRUE(absl::StrContains(status.message(), "lathe_manifest.json: ")) << status;
    return std::string(status.message());
  };
  const std::string file = R"("a":{"bytes":1,"crc32c":"00000000"})";
  error("");
  error("[]");
  EXPECT_TRUE(absl::StrContains(error("{}"), "no version"));
  EXPECT_TRUE(absl::StrContains(error(absl::StrCat("{\"files\":{", file, "}}")), "no version"));
  EXPECT_TRUE(absl::StrContains(error(R"({"version":2})"), "version 2, expected 1"));
  EXPECT_TRUE(absl::StrContains(error(R"({"version":1})"), "names no files"));
  EXPECT_TRUE(absl::StrContains(error(R"({"version":1,"files":{}})"), "names no files"));
  EXPECT_TRUE(absl::StrContains(error(R"({"files":{"a":{"bytes":1}}})"), "no crc32c"));
  EXPECT_TRUE(
      absl::StrContains(error(R"({"files":{"../a":{"bytes":1}}})"), "'../a' is not a plain"));
  EXPECT_TRUE(absl::StrContains(error(R"({"files":{"a":{"crc32c":"xyz"}}})"), "not a checksum"));
  EXPECT_TRUE(absl::StrContains(error(R"({"files":{"a":{"bytes":-1}}})"), "negative"));
  EXPECT_TRUE(
      absl::StrContains(error(absl::StrCat("{\"files\":{", file, ",", file, "}}")), "twice"));
  EXPECT_TRUE(absl::StrContains(error(R"({"file":{}})"), "unknown key 'file'"));
}

}  // namespace
}  // namespace lathe
