#include "lathe/checkpoint/checkpoint_directory.h"

#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <utility>

#include "absl/status/status_macros.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "lathe/base/logging.h"
#include "lathe/checkpoint/atomic_file.h"
#include "lathe/checkpoint/deepspeed_checkpoint.h"
#include "lathe/checkpoint/manifest.h"
#include "lathe/checkpoint/output_lock.h"
#include "lathe/checkpoint/posix_file.h"

namespace lathe {
namespace {

constexpr std::string_view kPrefix = "checkpoint-";

struct Numbered {
  int64_t step;
  std::string name;
};

// The checkpoint-N entries, by N.
absl::StatusOr<std::vector<Numbered>> ListCheckpoints(const std::string& output_dir) {
  ABSL_ASSIGN_OR_RETURN(std::vector<std::string> names, ListDirectory(output_dir));
  std::vector<Numbered> checkpoints;
  for (std::string& name : names) {
    const std::optional<int64_t> step = CheckpointStep(name);
    if (step.has_value()) checkpoints.push_back({*step, std::move(name)});
  }
  std::stable_sort(checkpoints.begin(), checkpoints.end(),
                   [](const Numbered& a, const Numbered& b) { return a.step < b.step; });
  return checkpoints;
}

// OK, or why the folder is no checkpoint to resume from.
absl::Status CheckUsable(const std::string& path) {
  const absl::Status verified = VerifyManifest(path);
  if (!absl::IsNotFound(verified)) return verified;
  ABSL_RETURN_IF_ERROR(RefuseDeepSpeedCheckpoint(path));
  return absl::NotFoundError(
      absl::StrCat(path, " has no ", kManifestName, ": it is incomplete or not Lathe's"));
}

// Under another name first, so that at no moment a checkpoint-N lacks files.
absl::Status RemoveCheckpoint(const std::string& output_dir, const std::string& name) {
  const std::string path = JoinPath(output_dir, name);
  const std::string doomed =
      JoinPath(output_dir, absl::StrCat(kUnfinishedPrefix, "deleted-", name));
  ABSL_RETURN_IF_ERROR(RemoveTree(doomed));
  if (rename(path.c_str(), doomed.c_str()) != 0) return ErrnoError(errno, "remove", path);
  return RemoveTree(doomed);
}

// Without folders that Lathe did not write.
absl::StatusOr<std::vector<Numbered>> ListOwnCheckpoints(const std::string& output_dir) {
  ABSL_ASSIGN_OR_RETURN(std::vector<Numbered> checkpoints, ListCheckpoints(output_dir));
  std::erase_if(checkpoints, [&](const Numbered& checkpoint) {
    return !PathExists(JoinPath(JoinPath(output_dir, checkpoint.name), kManifestName));
  });
  return checkpoints;
}

std::string_view LastComponent(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  return path.substr(path.rfind('/') + 1);  // npos + 1 is 0
}

}  // namespace

std::string CheckpointName(int64_t step) { return absl::StrCat(kPrefix, step); }

std::optional<int64_t> CheckpointStep(std::string_view name) {
  if (!absl::StartsWith(name, kPrefix)) return std::nullopt;
  const std::string_view digits = name.substr(kPrefix.size());
  int64_t step;
  if (digits.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
  if (!absl::SimpleAtoi(digits, &step)) return std::nullopt;  // empty, or beyond 2^63
  return step;
}

absl::StatusOr<bool> HasCheckpoints(const std::string& output_dir) {
  if (!PathExists(output_dir)) return false;
  ABSL_ASSIGN_OR_RETURN(const std::vector<Numbered> checkpoints, ListCheckpoints(output_dir));
  return !checkpoints.empty();
}

absl::StatusOr<std::optional<std::string>> FindLastCheckpoint(const std::string& output_dir) {
  if (!PathExists(output_dir)) return std::nullopt;
  ABSL_ASSIGN_OR_RETURN(const std::vector<Numbered> checkpoints, ListCheckpoints(output_dir));
  std::vector<std::string> reasons;
  for (auto newest = checkpoints.rbegin(); newest != checkpoints.rend(); ++newest) {
    const std::string path = JoinPath(output_dir, newest->name);
    const absl::Status usable = CheckUsable(path);
    if (usable.ok()) {
      for (const std::string& reason : reasons) {
        LOG(WARNING) << reason << "; using " << path << " instead";
      }
      return path;
    }
    reasons.emplace_back(usable.message());
  }
  if (reasons.empty()) return std::nullopt;
  return absl::FailedPreconditionError(absl::StrCat(
      "none of the checkpoints in ", output_dir, " can be used: ", absl::StrJoin(reasons, "; "),
      ". Remove them or choose another output folder"));
}

absl::Status CheckOutputDirectoryIsFree(const std::string& output_dir,
                                        absl::Span<const std::string> own_entries) {
  if (!PathExists(output_dir)) return absl::OkStatus();
  ABSL_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(output_dir));
  for (const std::string& name : names) {
    if (name == kOutputLockName || absl::StartsWith(name, kUnfinishedPrefix)) continue;
    if (std::find(own_entries.begin(), own_entries.end(), name) != own_entries.end()) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("Output dir (", output_dir, ") is not empty: it has ", Printable(name),
                     " and no checkpoint to resume from. Choose another --output_dir or empty it"));
  }
  return absl::OkStatus();
}

absl::Status RotateCheckpoints(const std::string& output_dir, int64_t save_total_limit,
                               absl::Span<const std::string> protect) {
  if (save_total_limit <= 0) return absl::OkStatus();
  ABSL_ASSIGN_OR_RETURN(const std::vector<Numbered> checkpoints, ListOwnCheckpoints(output_dir));
  const auto is_protected = [&](std::string_view name) {
    return std::any_of(protect.begin(), protect.end(),
                       [&](std::string_view path) { return LastComponent(path) == name; });
  };
  int64_t num_left = static_cast<int64_t>(checkpoints.size());
  for (size_t i = 0; i + 1 < checkpoints.size() && num_left > save_total_limit; ++i) {
    if (is_protected(checkpoints[i].name)) continue;
    LOG(INFO) << "Deleting older checkpoint " << JoinPath(output_dir, checkpoints[i].name)
              << " due to save_total_limit " << save_total_limit;
    ABSL_RETURN_IF_ERROR(RemoveCheckpoint(output_dir, checkpoints[i].name));
    --num_left;
  }
  return absl::OkStatus();
}

absl::Status RemoveOtherCheckpoints(const std::string& output_dir, std::string_view keep) {
  ABSL_ASSIGN_OR_RETURN(const std::vector<Numbered> checkpoints, ListOwnCheckpoints(output_dir));
  for (const Numbered& checkpoint : checkpoints) {
    if (checkpoint.name == LastComponent(keep)) continue;
    LOG(INFO) << "Deleting checkpoint " << JoinPath(output_dir, checkpoint.name);
    ABSL_RETURN_IF_ERROR(RemoveCheckpoint(output_dir, checkpoint.name));
  }
  return absl::OkStatus();
}

absl::Status RemoveLeftovers(const std::string& output_dir) {
  if (!PathExists(output_dir)) return absl::OkStatus();
  ABSL_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(output_dir));
  for (const std::string& name : names) {
    if (!absl::StartsWith(name, kUnfinishedPrefix)) continue;
    const std::string path = JoinPath(output_dir, name);
    LOG(INFO) << "Removing " << path << ", which an interrupted run left unfinished";
    ABSL_RETURN_IF_ERROR(RemoveTree(path));
  }
  return absl::OkStatus();
}

absl::Status CheckSharedDirectory(const std::string& output_dir, const RankGroup& group) {
  const std::string path = JoinPath(output_dir, absl::StrCat(kUnfinishedPrefix, "shared-token"));
  std::string token;
  absl::Status mine;
  if (group.rank == 0) {
    std::random_device random;
    token =
        absl::StrCat(absl::Hex(random(), absl::kZeroPad8), absl::Hex(random(), absl::kZeroPad8));
    mine = MakeDirectories(output_dir);
    if (mine.ok()) mine = WriteFileAtomically(path, token);
  }
  ABSL_RETURN_IF_ERROR(group.Agree(mine));
  const std::vector<std::string> tokens = group.all_gather(token);
  const absl::StatusOr<std::string> seen = ReadSmallFile(path, 1000);
  if (!seen.ok() || *seen != tokens[0]) {
    mine = absl::FailedPreconditionError(
        absl::StrCat("does not see what rank 0 wrote into ", output_dir,
                     ": --output_dir must be on one file system that all ranks share"));
  }
  const absl::Status agreed = group.Agree(mine);
  if (group.rank == 0) unlink(path.c_str());
  return agreed;
}

}  // namespace lathe
