#include "lathe/launchers/output_folder.h"

#include <filesystem>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/base/logging.h"
#include "lathe/checkpoint/checkpoint_directory.h"
#include "lathe/checkpoint/deepspeed_checkpoint.h"
#include "lathe/checkpoint/manifest.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

enum class Resume { kIfThereIsOne, kMust, kNever, kNamed };

Resume WhatIsWanted(const std::string& flag) {
  if (flag.empty()) return Resume::kIfThereIsOne;
  if (flag == "true" || flag == "True") return Resume::kMust;
  if (flag == "false" || flag == "False") return Resume::kNever;
  return Resume::kNamed;
}

// What a run makes in its output folder before its first checkpoint.
std::vector<std::string> OwnEntries(const TrainingArguments& arguments) {
  std::vector<std::string> entries = {"runs"};
  if (!arguments.has_logging_dir()) return entries;
  const fs::path inside =
      fs::path(arguments.logging_dir()).lexically_relative(arguments.output_dir());
  if (!inside.empty() && *inside.begin() != ".." && *inside.begin() != ".")
    entries.push_back(inside.begin()->string());
  return entries;
}

absl::Status CheckNamedCheckpoint(const std::string& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    return absl::NotFoundError(absl::StrCat("--resume_from_checkpoint ", path, ": no such folder"));
  }
  const absl::Status verified = VerifyManifest(path);
  if (!absl::IsNotFound(verified)) return verified;
  ABSL_RETURN_IF_ERROR(RefuseDeepSpeedCheckpoint(path));
  return absl::NotFoundError(
      absl::StrCat("--resume_from_checkpoint ", path, ": it has no ", kManifestName,
                   ", so it is incomplete or no checkpoint of Lathe's; to begin with its weights "
                   "alone: --model_name_or_path"));
}

// "" to begin anew.
absl::StatusOr<std::string> FindResumePoint(const TrainingArguments& arguments) {
  const std::string& output_dir = arguments.output_dir();
  const std::string& flag = arguments.resume_from_checkpoint();
  const Resume wanted = WhatIsWanted(flag);
  ABSL_ASSIGN_OR_RETURN(const bool has_checkpoints, HasCheckpoints(output_dir));
  if (wanted == Resume::kNever && has_checkpoints) {
    return absl::FailedPreconditionError(absl::StrCat(
        "--resume_from_checkpoint ", flag, ": ", output_dir,
        " has checkpoints, which a run from the start would replace; choose another --output_dir"));
  }
  if (wanted == Resume::kMust && !has_checkpoints) {
    return absl::NotFoundError(absl::StrCat("--resume_from_checkpoint ", flag,
                                            ": there is no checkpoint in ", output_dir));
  }
  if (!has_checkpoints) {
    ABSL_RETURN_IF_ERROR(CheckOutputDirectoryIsFree(output_dir, OwnEntries(arguments)));
  }
  if (wanted == Resume::kNamed) {
    ABSL_RETURN_IF_ERROR(CheckNamedCheckpoint(flag));
    return flag;
  }
  ABSL_ASSIGN_OR_RETURN(const std::optional<std::string> last, FindLastCheckpoint(output_dir));
  if (last) LOG(INFO) << "Checkpoint detected, resuming training at " << *last;
  return last.value_or("");
}

absl::Status ClaimOnRank0(const TrainingArguments& arguments, OutputFolder& output) {
  ABSL_ASSIGN_OR_RETURN(OutputLock lock, OutputLock::Acquire(arguments.output_dir()));
  output.lock.emplace(std::move(lock));
  ABSL_RETURN_IF_ERROR(RemoveLeftovers(arguments.output_dir()));
  ABSL_ASSIGN_OR_RETURN(output.resume_from, FindResumePoint(arguments));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<OutputFolder> ClaimOutputFolder(const TrainingArguments& arguments,
                                               const RankGroup& ranks) {
  OutputFolder output;
  absl::Status status;
  if (ranks.rank == 0) status = ClaimOnRank0(arguments, output);
  ABSL_RETURN_IF_ERROR(ranks.Agree(status));
  output.resume_from = ranks.all_gather(output.resume_from)[0];
  ABSL_RETURN_IF_ERROR(CheckSharedDirectory(arguments.output_dir(), ranks));
  return output;
}

}  // namespace lathe
