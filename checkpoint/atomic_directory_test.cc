#include "lathe/checkpoint/atomic_directory.h"

#include <sys/stat.h>

#include <atomic>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "lathe/checkpoint/atomic_file.h"
#include "lathe/checkpoint/posix_file.h"
#include "lathe/checkpoint/thread_ranks.h"

namespace lathe {
namespace {

using Names = std::vector<std::string>;

std::string Content(const std::string& path) { return ReadSmallFile(path, 1 << 20).value_or("?"); }

TEST(AtomicDirectoryTest, AppearsCompleteOnCommit) {
  const std::string parent = FreshFolder() + "/made/here";
  auto directory = AtomicDirectory::Create(parent, "checkpoint-1");
  ASSERT_TRUE(directory.ok()) << directory.status();
  (*directory)->WriteFile("state.json", "{}");
  (*directory)->WriteFile("empty", "");
  EXPECT_FALSE(PathExists(parent + "/checkpoint-1"));
  const absl::Status status = (*directory)->Commit();
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(*ListDirectory(parent), Names{"checkpoint-1"});
  EXPECT_EQ(*ListDirectory(parent + "/checkpoint-1"),
            (Names{"empty", "lathe_manifest.json", "state.json"}));
  EXPECT_TRUE(VerifyManifest(parent + "/checkpoint-1").ok());
}

TEST(AtomicDirectoryTest, WithoutCommitNothingStays) {
  const std::string parent = FreshFolder();
  {
    (*AtomicDirectory::Create(parent, "checkpoint-1"))->WriteFile("state.json", "{}");
  }
  EXPECT_EQ(*ListDirectory(parent), Names{});
}

TEST(AtomicDirectoryTest, ReplacesAnOlderOneAsAWhole) {
  const std::string parent = FreshFolder();
  for (const char* const name : {"old", "new"}) {
    auto directory = *AtomicDirectory::Create(parent, "checkpoint-1");
    directory->WriteFile(name, name);
    ASSERT_TRUE(directory->Commit().ok());
  }
  EXPECT_EQ(*ListDirectory(parent), Names{"checkpoint-1"});
  EXPECT_EQ(*ListDirectory(parent + "/checkpoint-1"), (Names{"lathe_manifest.json", "new"}));
}

TEST(AtomicDirectoryTest, AnUnfinishedOneIsReplaced) {
  const std::string parent = FreshFolder();
  ASSERT_TRUE(MakeDirectories(parent + "/.lathe-tmp-checkpoint-1/sub").ok());
  ASSERT_TRUE(WriteFileAtomically(parent + "/.lathe-tmp-checkpoint-1/state.json", "half").ok());
  auto directory = *AtomicDirectory::Create(parent, "checkpoint-1");
  directory->WriteFile("state.json", "whole");
  ASSERT_TRUE(directory->Commit().ok());
  EXPECT_EQ(Content(parent + "/checkpoint-1/state.json"), "whole");
  EXPECT_EQ(*ListDirectory(parent), Names{"checkpoint-1"});
}

TEST(AtomicDirectoryTest, AFailureOfOneRankFailsAll) {
  const std::string parent = FreshFolder();
  std::atomic<int> num_failed = 0;
  RunThreadRanks(3, [&](const RankGroup& group) {
    auto directory = *AtomicDirectory::Create(parent, "checkpoint-1", group);
    if (group.rank == 0) directory->WriteFile("state.json", "{}");
    if (group.rank == 1) directory->Fail(absl::ResourceExhaustedError("the disk is full"));
    if (group.rank == 2) directory->WriteFile("not/plain", "");
    const absl::Status status = directory->Commit();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(status.message(), "rank 1: the disk is full");
    EXPECT_EQ(*ListDirectory(parent), Names{});  // gone before any rank returns
    ++num_failed;
  });
  EXPECT_EQ(num_failed, 3);
}

TEST(AtomicDirectoryTest, RanksWritePartsOfOneFile) {
  const std::string parent = FreshFolder();
  RunThreadRanks(4, [&](const RankGroup& group) {
    auto directory = *AtomicDirectory::Create(parent, "checkpoint-1", group);
    if (group.rank == 0) directory->AllocateFile("shared", 1 + 4 * 3, "<");
    ASSERT_TRUE(directory->Agree().ok());
    const std::string part(3, static_cast<char>('a' + group.rank));
    PiecewiseCrc32c checksum(13);
    checksum.Add(1 + 3 * group.rank, part);
    const PosixFile file = *PosixFile::OpenForWriting(directory->path() + "/shared");
    ASSERT_TRUE(file.WriteAt(1 + 3 * group.rank, part).ok());
    directory->AddPart("shared", checksum);
    if (group.rank == 3) directory->WriteFile("of_rank_3", "x");
    const absl::Status status = directory->Commit();
    EXPECT_TRUE(status.ok()) << status;
  });
  EXPECT_EQ(Content(parent + "/checkpoint-1/shared"), "<aaabbbcccddd");
  EXPECT_TRUE(VerifyManifest(parent + "/checkpoint-1").ok());
  EXPECT_EQ(ReadManifest(parent + "/checkpoint-1")->size(), 2u);
}

TEST(AtomicDirectoryTest, AFileThatNobodyCoveredIsAnError) {
  const std::string parent = FreshFolder();
  RunThreadRanks(2, [&](const RankGroup& group) {
    auto directory = *AtomicDirectory::Create(parent, "checkpoint-1", group);
    if (group.rank == 0) directory->AllocateFile("shared", 10, "<");
    const absl::Status status = directory->Commit();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_TRUE(absl::StrContains(status.message(), "wrote 1 of 10 bytes")) << status;
  });
  EXPECT_EQ(*ListDirectory(parent), Names{});
}

TEST(AtomicDirectoryTest, RanksWithoutACommonFileSystemAreRefused) {
  const std::string folder = FreshFolder();
  RunThreadRanks(2, [&](const RankGroup& group) {
    const auto directory =
        AtomicDirectory::Create(folder + (group.rank == 0 ? "/a" : "/b"), "checkpoint-1", group);
    EXPECT_EQ(directory.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_TRUE(absl::StartsWith(directory.status().message(), "rank 1: does not see "))
        << directory.status();
  });
}

TEST(AtomicDirectoryTest, IntoTheParentBesideOtherThings) {
  const std::string parent = FreshFolder();
  ASSERT_TRUE(MakeDirectories(parent + "/checkpoint-1").ok());
  ASSERT_TRUE(WriteFileAtomically(parent + "/mine.txt", "the user's").ok());
  const auto save = [&](const Names& names, const std::string& content) {
    auto directory = *AtomicDirectory::Create(parent, "final");
    for (const std::string& name : names) directory->WriteFile(name, content);
    return directory->CommitIntoParent();
  };
  ASSERT_TRUE(save({"a", "b"}, "1").ok());
  EXPECT_EQ(*ListDirectory(parent),
            (Names{"a", "b", "checkpoint-1", "lathe_manifest.json", "mine.txt"}));
  // "a" is no longer written and goes; what is not in the manifest stays.
  ASSERT_TRUE(save({"b", "c"}, "2").ok());
  EXPECT_EQ(*ListDirectory(parent),
            (Names{"b", "c", "checkpoint-1", "lathe_manifest.json", "mine.txt"}));
  EXPECT_EQ(Content(parent + "/b"), "2");
  EXPECT_TRUE(VerifyManifest(parent).ok());
}

TEST(AtomicDirectoryTest, ErrorsNameThePath) {
  const std::string folder = FreshFolder();
  ASSERT_TRUE(WriteFileAtomically(folder + "/file", "x").ok());
  const absl::Status status = AtomicDirectory::Create(folder + "/file", "checkpoint-1").status();
  EXPECT_TRUE(absl::StrContains(status.message(), folder + "/file")) << status;
  EXPECT_FALSE(AtomicDirectory::Create(folder, "../x").ok());
  EXPECT_FALSE(AtomicDirectory::Create(folder, "").ok());
}

}  // namespace
}  // namespace lathe
