// A save is interrupted at every single call that changes the file system: killed before it, after
// it and in the middle of a write; with the disk full from there on; and with one failing call.
// Whatever happens, each checkpoint-N that is there is complete and right, the one before is
// untouched, and the next start goes on.

#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "ATen/ops/arange.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/full.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "lathe/checkpoint/atomic_directory.h"
#include "lathe/checkpoint/checkpoint.h"
#include "lathe/checkpoint/checkpoint_directory.h"
#include "lathe/checkpoint/manifest.h"
#include "lathe/checkpoint/model_files.h"
#include "lathe/checkpoint/output_lock.h"
#include "lathe/checkpoint/posix_file.h"
#include "lathe/checkpoint/thread_ranks.h"

extern char** environ;

namespace lathe {
namespace {

constexpr char kShim[] = "tests/faults/kill_at_call/kill_at_call.so";
constexpr int64_t kRows = 64;
constexpr int64_t kColumns = 40;
constexpr int kFailed = 3;

std::vector<NamedTensor> RankTensors(const RankGroup& group, int64_t step) {
  const int64_t rows = kRows / group.num_ranks;
  const Box mine{{rows * group.rank, 0}, {rows, kColumns}};
  std::vector<NamedTensor> tensors;
  for (const char* const name : {"first", "second", "third"}) {
    tensors.push_back({.name = name,
                       .full_shape = {kRows, kColumns},
                       .pieces = {{.box = mine, .local = at::full({rows, kColumns}, step)}}});
  }
  return tensors;
}

// What a trainer does at a save, of `num_ranks` ranks; the start of a run included.
absl::Status StartAndSave(const std::string& output_dir, int64_t step, int num_ranks) {
  const auto lock = OutputLock::Acquire(output_dir);
  if (!lock.ok()) return lock.status();
  if (absl::Status status = RemoveLeftovers(output_dir); !status.ok()) return status;
  absl::Status result;
  RunThreadRanks(num_ranks, [&](const RankGroup& group) {
    const absl::Status status = [&]() -> absl::Status {
      auto directory = AtomicDirectory::Create(output_dir, CheckpointName(step), group);
      if (!directory.ok()) return directory.status();
      // Collectives return the same on all ranks, so leaving early is safe; shards of one tensor
      // each.
      absl::Status saved = SaveTensors(**directory, "model", RankTensors(group, step), 11000);
      if (!saved.ok()) return saved;
      saved = SaveTensors(**directory, "optimizer", RankTensors(group, -step));
      if (!saved.ok()) return saved;
      if (group.rank == 0) (*directory)->WriteFile("trainer_state.json", absl::StrCat(step));
      saved = (*directory)->Commit();
      if (!saved.ok() || group.rank != 0) return saved;
      return RotateCheckpoints(output_dir, 2, {CheckpointName(step)});
    }();
    if (group.rank == 0) result = status;
  });
  return result;
}

void ExpectRightContent(const std::string& path, int64_t step) {
  const absl::Status verified = VerifyManifest(path);
  ASSERT_TRUE(verified.ok()) << verified;
  EXPECT_EQ(*ReadSmallFile(path + "/trainer_state.json", 100), absl::StrCat(step));
  for (const auto& [stem, value] : {std::pair{"model", step}, {"optimizer", -step}}) {
    const ModelFiles files = *ModelFiles::Open(path, stem);
    EXPECT_EQ(files.tensors().size(), 3u);
    for (const auto& [name, entry] : files.tensors()) {
      const at::Tensor loaded = *files.Load(name);
      EXPECT_EQ(loaded.min().item<float>(), value);
      EXPECT_EQ(loaded.max().item<float>(), value);
    }
  }
}

struct Outcome {
  bool killed = false;
  int exit_code = -1;
  int num_calls = 0;  // that changed the file system
  std::string error;
  std::string hit;  // "NUMBER CALL PATH" of the call with the fault
};

// Runs the save in a forked process, with the fault. The library counts anew in it.
Outcome SaveWithFault(const std::string& output_dir, int64_t step, int num_ranks,
                      const std::string& action, int call) {
  const std::string log = output_dir + ".calls";
  const std::string error = output_dir + ".error";
  unlink(log.c_str());
  unlink(error.c_str());
  const pid_t child = fork();
  if (child == 0) {
    setenv("LATHE_FAULT_PATH", output_dir.c_str(), 1);
    setenv("LATHE_FAULT_LOG", log.c_str(), 1);
    setenv("LATHE_FAULT_ACTION", action.c_str(), 1);
    setenv("LATHE_FAULT_CALL", absl::StrCat(call).c_str(), 1);
    const int descriptor = open(error.c_str(), O_WRONLY | O_CREAT, 0600);
    dup2(descriptor, 2);
    const absl::Status status = StartAndSave(output_dir, step, num_ranks);
    const std::string message(status.message());
    if (write(descriptor, message.data(), message.size()) < 0) _exit(1);
    _exit(status.ok() ? 0 : kFailed);
  }
  int state = 0;
  EXPECT_EQ(waitpid(child, &state, 0), child);
  Outcome outcome;
  outcome.killed = WIFSIGNALED(state) && WTERMSIG(state) == SIGKILL;
  if (WIFEXITED(state)) outcome.exit_code = WEXITSTATUS(state);
  const std::string calls = ReadSmallFile(log, 1 << 20).value_or("");
  outcome.num_calls = static_cast<int>(std::count(calls.begin(), calls.end(), '\n'));
  const std::vector<std::string> lines = absl::StrSplit(calls, '\n');
  if (outcome.num_calls >= call) outcome.hit = lines[call - 1];
  outcome.error = ReadSmallFile(error, 1 << 20).value_or("");
  return outcome;
}

void CopyFolder(const std::string& from, const std::string& to) {
  std::filesystem::remove_all(to);
  std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
}

// `output_dir` after a save of step 3 was interrupted, with checkpoints 1 and 2 before it.
void ExpectNothingLost(const std::string& output_dir) {
  const std::vector<std::string> names = *ListDirectory(output_dir);
  bool second_is_there = false;
  for (const std::string& name : names) {
    const std::optional<int64_t> step = CheckpointStep(name);
    if (!step.has_value()) continue;
    ExpectRightContent(JoinPath(output_dir, name), *step);
    second_is_there = second_is_there || *step == 2;
  }
  EXPECT_TRUE(second_is_there);
}

void ExpectNextStartGoesOn(const std::string& output_dir, int num_ranks) {
  const absl::Status status = StartAndSave(output_dir, 3, num_ranks);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(*ListDirectory(output_dir),
            (std::vector<std::string>{".lathe.lock", "checkpoint-2", "checkpoint-3"}));
  EXPECT_EQ(**FindLastCheckpoint(output_dir), output_dir + "/checkpoint-3");
  ExpectRightContent(output_dir + "/checkpoint-3", 3);
}

void ExpectFailureIsReported(const Outcome& outcome, const std::string& action,
                             const std::string& output_dir) {
  EXPECT_EQ(outcome.exit_code, kFailed);
  // glog's warnings end in a line feed; the message of the status is the last line.
  const std::vector<std::string> lines = absl::StrSplit(outcome.error, '\n');
  EXPECT_TRUE(absl::StrContains(lines.back(),
                                action == "eio" ? "Input/output error" : "No space left on device"))
      << outcome.error;
  EXPECT_TRUE(absl::StrContains(lines.back(), output_dir)) << outcome.error;
  if (action != "enospc") return;
  // Removing works on a full disk, so nothing half-written stays.
  const std::vector<std::string> names = *ListDirectory(output_dir);
  for (const std::string& name : names) {
    const bool is_doomed = absl::StartsWith(name, ".lathe-tmp-deleted-");
    EXPECT_TRUE(!absl::StartsWith(name, ".lathe-tmp-") || is_doomed) << name;
  }
}

// Failing to note who holds the lock, or to clear away what was replaced, loses nothing and is a
// warning at most. Any other failed call, a sync above all, must fail the save.
bool MayBeSurvived(const std::string& hit) {
  return absl::EndsWith(hit, "/.lathe.lock") || absl::StrContains(hit, " unlink ") ||
         absl::StrContains(hit, " rmdir ");
}

// The whole loop for one action.
void InterruptEveryCall(const std::string& action, int num_ranks) {
  const std::string folder = FreshFolder();
  const std::string before = folder + "/before";
  for (const int64_t step : {1, 2}) {
    const absl::Status status = StartAndSave(before, step, num_ranks);
    ASSERT_TRUE(status.ok()) << status;
  }
  const std::string output_dir = folder + "/out";
  int num_faults = 0;
  for (int call = 1;; ++call) {
    ASSERT_LT(call, 1000);
    CopyFolder(before, output_dir);
    const Outcome outcome = SaveWithFault(output_dir, 3, num_ranks, action, call);
    SCOPED_TRACE(absl::StrCat(action, " at call ", call, ": ", outcome.error));
    ExpectNothingLost(output_dir);
    // Death may come before the other rank has logged its call.
    if (!outcome.killed && outcome.num_calls < call) {
      EXPECT_EQ(outcome.exit_code, 0);
      break;
    }
    ++num_faults;
    if (absl::StartsWith(action, "kill")) {
      EXPECT_TRUE(outcome.killed);
    } else if (outcome.exit_code != 0 || !MayBeSurvived(outcome.hit)) {
      ExpectFailureIsReported(outcome, action, output_dir);
    }
    ExpectNextStartGoesOn(output_dir, num_ranks);
    if (testing::Test::HasFailure()) break;
  }
  // 2 ranks: 5 tensor files, an index, a json and the manifest, each made, written and synced, and
  // more.
  EXPECT_GT(num_faults, 40);
  std::cout << action << " at each of " << num_faults << " calls, " << num_ranks << " ranks\n";
}

// Starts this test again with the library preloaded and returns true, or returns false when it is.
bool RunPreloaded() {
  if (getenv("LD_PRELOAD") != nullptr) return false;
  const testing::TestInfo& test = *testing::UnitTest::GetInstance()->current_test_info();
  std::string filter = absl::StrCat("--gtest_filter=", test.test_suite_name(), ".", test.name());
  std::string program = "/proc/self/exe";
  char* const arguments[] = {program.data(), filter.data(), nullptr};
  setenv("LD_PRELOAD", std::filesystem::absolute(kShim).c_str(), 1);
  unsetenv("XML_OUTPUT_FILE");  // which is the outer test's
  pid_t child = 0;
  EXPECT_EQ(posix_spawn(&child, program.c_str(), nullptr, nullptr, arguments, environ), 0);
  unsetenv("LD_PRELOAD");
  int state = -1;
  EXPECT_EQ(waitpid(child, &state, 0), child);
  EXPECT_TRUE(WIFEXITED(state) && WEXITSTATUS(state) == 0);
  return true;
}

// The same with a file system that is really full: a small one of our own, where the machine lets
// us mount it.
TEST(FullDiskTest, LosesNothing) {
  const std::string disk = FreshFolder();
  if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=300k") != 0) {
    GTEST_SKIP() << "cannot mount a file system here (" << strerror(errno) << ")";
  }
  const std::string output_dir = disk + "/out";
  for (const int64_t step : {1, 2}) {
    const absl::Status status = StartAndSave(output_dir, step, 2);
    ASSERT_TRUE(status.ok()) << status;
  }
  // Two checkpoints of about 80 kB are there. What is left is filled page by page from full to
  // free, so that the save runs out of space at every point that it can.
  int num_failures = 0;
  for (int free_pages = 0;; ++free_pages) {
    ASSERT_LT(free_pages, 60);
    const std::string filler = disk + "/filler";
    unlink(filler.c_str());
    struct statvfs space;
    ASSERT_EQ(statvfs(disk.c_str(), &space), 0);
    const uint64_t fill =
        (space.f_bavail - std::min<uint64_t>(space.f_bavail, free_pages)) * space.f_bsize;
    ASSERT_TRUE(PosixFile::Create(filler)->Allocate(fill).ok());
    const absl::Status status = StartAndSave(output_dir, 3, 2);
    if (status.ok()) break;
    ++num_failures;
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "No space left on device")) << status;
    EXPECT_FALSE(absl::StrContains(status.message(), "\n"));
    EXPECT_EQ(*ListDirectory(output_dir),
              (std::vector<std::string>{".lathe.lock", "checkpoint-1", "checkpoint-2"}));
    ExpectRightContent(output_dir + "/checkpoint-1", 1);
    ExpectRightContent(output_dir + "/checkpoint-2", 2);
    if (free_pages == 3) std::cout << status.message() << "\n";
  }
  EXPECT_GT(num_failures, 10);
  ExpectRightContent(output_dir + "/checkpoint-3", 3);
  std::cout << num_failures << " saves on a full disk failed and lost nothing\n";
}

class SaveFaultsTest : public testing::TestWithParam<std::tuple<const char*, int>> {};

TEST_P(SaveFaultsTest, LoseNothing) {
  if (RunPreloaded()) return;
  const auto [action, num_ranks] = GetParam();
  InterruptEveryCall(action, num_ranks);
}

INSTANTIATE_TEST_SUITE_P(AllActions, SaveFaultsTest,
                         testing::Combine(testing::Values("kill", "kill_after", "kill_half",
                                                          "enospc", "eio"),
                                          testing::Values(1, 2)));

}  // namespace
}  // namespace lathe
