#include "lathe/checkpoint/checkpoint_directory.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/checkpoint/atomic_directory.h"
#include "lathe/checkpoint/atomic_file.h"
#include "lathe/checkpoint/output_lock.h"
#include "lathe/checkpoint/posix_file.h"
#include "lathe/checkpoint/thread_ranks.h"

namespace lathe {
namespace {

using Names = std::vector<std::string>;

void Save(const std::string& folder, int64_t step) {
  auto directory = *AtomicDirectory::Create(folder, CheckpointName(step));
  directory->WriteFile("state.json", absl::StrCat(step));
  ASSERT_TRUE(directory->Commit().ok());
}

std::string FolderWith(const std::vector<int64_t>& steps) {
  const std::string folder = FreshFolder();
  for (const int64_t step : steps) Save(folder, step);
  return folder;
}

TEST(CheckpointDirectoryTest, Names) {
  EXPECT_EQ(CheckpointName(100), "checkpoint-100");
  EXPECT_EQ(CheckpointStep("checkpoint-100"), 100);
  EXPECT_EQ(CheckpointStep("checkpoint-0"), 0);
  for (const char* name :
       {"checkpoint-", "checkpoint-1a", "checkpoint--1", "checkpoint-+1", "checkpoint- 1",
        "xcheckpoint-1", "checkpoint-1 ", "checkpoint", "checkpoint-1.5", "",
        ".lathe-tmp-checkpoint-1", "checkpoint-99999999999999999999"}) {
    EXPECT_EQ(CheckpointStep(name), std::nullopt) << name;
  }
}

TEST(CheckpointDirectoryTest, FindsTheLargestNumber) {
  const std::string folder = FolderWith({90, 100, 9});
  EXPECT_EQ(**FindLastCheckpoint(folder), folder + "/checkpoint-100");
  EXPECT_EQ(*FindLastCheckpoint(folder + "/absent"), std::nullopt);
  EXPECT_EQ(*FindLastCheckpoint(FreshFolder()), std::nullopt);
}

TEST(CheckpointDirectoryTest, HasCheckpointsSaysOnlyThat) {
  EXPECT_FALSE(*HasCheckpoints(FreshFolder()));
  EXPECT_FALSE(*HasCheckpoints(FreshFolder() + "/absent"));
  EXPECT_TRUE(*HasCheckpoints(FolderWith({7})));
  const std::string folder = FreshFolder();
  ASSERT_TRUE(MakeDirectories(folder + "/checkpoint-4").ok());
  EXPECT_TRUE(*HasCheckpoints(folder)) << "damaged ones count";
}

TEST(CheckpointDirectoryTest, PassesOverDamagedAndIncompleteOnesAloud) {
  const std::string folder = FolderWith({1, 2, 3});
  ASSERT_TRUE(WriteFileAtomically(folder + "/checkpoint-3/state.json", "4").ok());
  ASSERT_TRUE(MakeDirectories(folder + "/checkpoint-4").ok());
  ASSERT_TRUE(WriteFileAtomically(folder + "/checkpoint-5", "not even a folder").ok());
  testing::internal::CaptureStderr();
  const auto last = FindLastCheckpoint(folder);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_EQ(**last, folder + "/checkpoint-2");
  EXPECT_TRUE(absl::StrContains(log, "checkpoint-3 is damaged: state.json has checksum")) << log;
  EXPECT_TRUE(absl::StrContains(log, "checkpoint-4 has no lathe_manifest.json")) << log;
  EXPECT_TRUE(absl::StrContains(log, "using " + folder + "/checkpoint-2 instead")) << log;
}

TEST(CheckpointDirectoryTest, NoUsableCheckpointIsAnErrorNotAFreshStart) {
  const std::string folder = FolderWith({1});
  ASSERT_EQ(unlink((folder + "/checkpoint-1/state.json").c_str()), 0);
  ASSERT_TRUE(MakeDirectories(folder + "/checkpoint-2").ok());
  const absl::Status status = FindLastCheckpoint(folder).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(absl::StrContains(status.message(), "state.json is missing")) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "checkpoint-2 has no")) << status;
}

TEST(CheckpointDirectoryTest, RefusesAFolderInUseForSomethingElse) {
  const std::string folder = FreshFolder();
  EXPECT_TRUE(CheckOutputDirectoryIsFree(folder + "/absent").ok());
  EXPECT_TRUE(CheckOutputDirectoryIsFree(folder).ok());
  const OutputLock lock = *OutputLock::Acquire(folder);
  ASSERT_TRUE(MakeDirectories(folder + "/.lathe-tmp-checkpoint-1").ok());
  ASSERT_TRUE(MakeDirectories(folder + "/runs").ok());
  EXPECT_TRUE(CheckOutputDirectoryIsFree(folder, {"runs"}).ok());
  const absl::Status status = CheckOutputDirectoryIsFree(folder);
  EXPECT_TRUE(absl::StrContains(status.message(), "Output dir (" + folder + ") is not empty"));
  EXPECT_TRUE(absl::StrContains(status.message(), "it has runs")) << status;
}

TEST(CheckpointDirectoryTest, RotatesByNumber) {
  const auto left = [](const std::vector<int64_t>& steps, int64_t limit, const Names& protect) {
    const std::string folder = FolderWith(steps);
    EXPECT_TRUE(RotateCheckpoints(folder, limit, protect).ok());
    return *ListDirectory(folder);
  };
  EXPECT_EQ(left({9, 10, 100}, 2, {}), (Names{"checkpoint-10", "checkpoint-100"}));
  EXPECT_EQ(left({9, 10, 100}, 0, {}).size(), 3u);
  EXPECT_EQ(left({9, 10, 100}, -1, {}).size(), 3u);
  EXPECT_EQ(left({9, 10, 100}, 5, {}).size(), 3u);
  EXPECT_EQ(left({9, 10, 100}, 1, {}), Names{"checkpoint-100"});
  EXPECT_EQ(left({9, 10, 100}, 1, {"out/checkpoint-9/"}),
            (Names{"checkpoint-100", "checkpoint-9"}));
  EXPECT_EQ(left({9, 10, 100}, 2, {"checkpoint-9"}), (Names{"checkpoint-100", "checkpoint-9"}));
}

TEST(CheckpointDirectoryTest, RotationLeavesWhatLatheDidNotWrite) {
  const std::string folder = FolderWith({3, 4});
  ASSERT_TRUE(MakeDirectories(folder + "/checkpoint-1").ok());
  ASSERT_TRUE(MakeDirectories(folder + "/checkpoint-x").ok());
  ASSERT_TRUE(RotateCheckpoints(folder, 1, {}).ok());
  EXPECT_EQ(*ListDirectory(folder), (Names{"checkpoint-1", "checkpoint-4", "checkpoint-x"}));
}

TEST(CheckpointDirectoryTest, LeftoversGoAndNothingElse) {
  const std::string folder = FolderWith({1});
  ASSERT_TRUE(MakeDirectories(folder + "/.lathe-tmp-checkpoint-2/sub").ok());
  ASSERT_TRUE(WriteFileAtomically(folder + "/.tmp-user", "x").ok());
  ASSERT_TRUE(PosixFile::Create(folder + "/.lathe-tmp-trainer_state.json").ok());
  ASSERT_TRUE(RemoveLeftovers(folder).ok());
  EXPECT_EQ(*ListDirectory(folder), (Names{".tmp-user", "checkpoint-1"}));
  EXPECT_TRUE(RemoveLeftovers(folder + "/absent").ok());
}

TEST(CheckpointDirectoryTest, SharedFolderIsProvenByAToken) {
  const std::string folder = FreshFolder();
  RunThreadRanks(3, [&](const RankGroup& group) {
    EXPECT_TRUE(CheckSharedDirectory(folder + "/one", group).ok());
    const std::string own = group.rank == 2 ? "/other" : "/one";
    const absl::Status status = CheckSharedDirectory(folder + own, group);
    EXPECT_TRUE(absl::StartsWith(status.message(), "rank 2: does not see what rank 0 wrote"))
        << status;
  });
  EXPECT_EQ(*ListDirectory(folder + "/one"), Names{});
}

TEST(OutputLockTest, ASecondRunIsRefusedByNameAndADeadOneNeverBlocks) {
  const std::string folder = FreshFolder() + "/out";
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const auto lock = OutputLock::Acquire(folder);
    const char ok = lock.ok();
    if (write(ready[1], &ok, 1) != 1) _exit(1);
    for (;;) pause();
  }
  char ok = 0;
  ASSERT_EQ(read(ready[0], &ok, 1), 1);
  ASSERT_EQ(ok, 1);
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  const absl::Status refused = OutputLock::Acquire(folder).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(absl::StrContains(
      refused.message(), absl::StrCat(folder, " is in use by process ", child, " on ", host)))
      << refused;
  kill(child, SIGKILL);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  // The file is still there, with the dead process in it.
  EXPECT_EQ(*ListDirectory(folder), Names{".lathe.lock"});
  {
    const auto lock = OutputLock::Acquire(folder);
    ASSERT_TRUE(lock.ok()) << lock.status();
    EXPECT_FALSE(OutputLock::Acquire(folder).ok());
  }
  EXPECT_TRUE(OutputLock::Acquire(folder).ok());
}

}  // namespace
}  // namespace lathe
