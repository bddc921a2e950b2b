#include "lathe/checkpoint/atomic_directory.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/base/logging.h"
#include "lathe/checkpoint/atomic_file.h"
#include "lathe/checkpoint/posix_file.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

absl::Status Rename(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) != 0) return ErrnoError(errno, "rename to", to);
  return absl::OkStatus();
}

// {"model.safetensors": [file bytes, bytes of these parts, CRC contribution]}
std::string PartsText(const std::map<std::string, PiecewiseCrc32c, std::less<>>& parts) {
  nlohmann::json text = nlohmann::json::object();
  for (const auto& [name, part] : parts) {
    text[name] = {part.file_bytes(), part.num_bytes(), part.contribution()};
  }
  return text.dump();
}

}  // namespace

AtomicDirectory::AtomicDirectory(std::string parent, std::string name, RankGroup group)
    : parent_(std::move(parent)),
      name_(std::move(name)),
      staging_(JoinPath(parent_, absl::StrCat(kUnfinishedPrefix, name_))),
      group_(std::move(group)) {}

AtomicDirectory::~AtomicDirectory() { RemoveStaging(); }

absl::StatusOr<std::unique_ptr<AtomicDirectory>> AtomicDirectory::Create(const std::string& parent,
                                                                         const std::string& name,
                                                                         RankGroup group) {
  if (!IsPlainFileName(name)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", Printable(name), "' is not a plain folder name"));
  }
  std::unique_ptr<AtomicDirectory> directory(new AtomicDirectory(parent, name, std::move(group)));
  if (directory->group_.rank == 0) directory->Fail(directory->MakeStaging());
  ABSL_RETURN_IF_ERROR(directory->Agree());
  if (!PathExists(directory->staging_)) {
    directory->Fail(absl::FailedPreconditionError(absl::StrCat(
        "does not see ", directory->staging_,
        ", which rank 0 made: checkpoints need one file system that all ranks share")));
  }
  ABSL_RETURN_IF_ERROR(directory->Agree());
  return directory;
}

absl::Status AtomicDirectory::MakeStaging() {
  ABSL_RETURN_IF_ERROR(MakeDirectories(parent_));
  ABSL_RETURN_IF_ERROR(RemoveTree(staging_));
  if (mkdir(staging_.c_str(), 0777) != 0) return ErrnoError(errno, "create folder", staging_);
  staged_ = true;
  return absl::OkStatus();
}

void AtomicDirectory::RemoveStaging() {
  if (!std::exchange(staged_, false)) return;
  const absl::Status removed = RemoveTree(staging_);
  if (!removed.ok()) LOG(WARNING) << removed.message() << "; the next start will remove it";
}

void AtomicDirectory::Fail(const absl::Status& status) {
  if (status_.ok()) status_ = status;
}

absl::Status AtomicDirectory::Agree() {
  if (failed_everywhere_) {
    // Every rank has this status already, and its message names the rank: only wait for the others.
    group_.all_gather("");
    return status_;
  }
  status_ = group_.Agree(status_);
  failed_everywhere_ = !status_.ok();
  return status_;
}

void AtomicDirectory::WriteFile(std::string_view name, std::string_view bytes) {
  AllocateFile(name, bytes.size(), bytes);
}

void AtomicDirectory::AllocateFile(std::string_view name, uint64_t bytes, std::string_view head) {
  if (status_.ok()) Fail(Allocate(name, bytes, head));
}

absl::Status AtomicDirectory::Allocate(std::string_view name, uint64_t bytes,
                                       std::string_view head) {
  if (!IsPlainFileName(name) || name == kManifestName) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", Printable(name), "' cannot be the name of a file of a checkpoint"));
  }
  ABSL_ASSIGN_OR_RETURN(PosixFile file, PosixFile::Create(JoinPath(staging_, name)));
  ABSL_RETURN_IF_ERROR(file.Allocate(bytes));
  ABSL_RETURN_IF_ERROR(file.WriteAt(0, head));
  ABSL_RETURN_IF_ERROR(file.Sync());
  ABSL_RETURN_IF_ERROR(file.Close());
  PiecewiseCrc32c part(bytes);
  part.Add(0, head);
  AddPart(name, part);
  return absl::OkStatus();
}

void AtomicDirectory::AddPart(std::string_view name, const PiecewiseCrc32c& part) {
  const auto [existing, is_new] = parts_.try_emplace(std::string(name), part);
  if (!is_new) existing->second.Merge(part);
}

absl::StatusOr<Manifest> AtomicDirectory::MergeParts(
    const std::vector<std::string>& parts_of_ranks) const {
  std::map<std::string, PiecewiseCrc32c> merged;
  for (const std::string& text : parts_of_ranks) {
    const nlohmann::json parts = nlohmann::json::parse(text);
    for (const auto& [name, numbers] : parts.items()) {
      const PiecewiseCrc32c part(numbers.at(0).get<uint64_t>(), numbers.at(1).get<uint64_t>(),
                                 numbers.at(2).get<uint32_t>());
      const auto [existing, is_new] = merged.try_emplace(name, part);
      if (!is_new) existing->second.Merge(part);
    }
  }
  Manifest manifest;
  for (const auto& [name, part] : merged) {
    ABSL_ASSIGN_OR_RETURN(const PosixFile file,
                          PosixFile::OpenForReading(JoinPath(staging_, name)));
    ABSL_ASSIGN_OR_RETURN(const uint64_t bytes, file.Size());
    if (part.num_bytes() != part.file_bytes() || bytes != part.file_bytes()) {
      return absl::DataLossError(absl::StrCat(file.path(), ": the ranks wrote ", part.num_bytes(),
                                              " of ", part.file_bytes(), " bytes, the file has ",
                                              bytes));
    }
    manifest.emplace(name, ManifestFile{part.file_bytes(), part.Total()});
  }
  return manifest;
}

absl::Status AtomicDirectory::WriteManifest(const Manifest& manifest) {
  const std::string json = ManifestJson(manifest);
  ABSL_ASSIGN_OR_RETURN(PosixFile file, PosixFile::Create(JoinPath(staging_, kManifestName)));
  ABSL_RETURN_IF_ERROR(file.WriteAt(0, json));
  ABSL_RETURN_IF_ERROR(file.Sync());
  ABSL_RETURN_IF_ERROR(file.Close());
  // The names in the folder last before the folder's own name does.
  return SyncDirectory(staging_);
}

absl::Status AtomicDirectory::MoveIntoPlace() {
  const std::string place = JoinPath(parent_, name_);
  if (!PathExists(place)) {
    ABSL_RETURN_IF_ERROR(Rename(staging_, place));
    staged_ = false;
  } else if (renameat2(AT_FDCWD, staging_.c_str(), AT_FDCWD, place.c_str(), RENAME_EXCHANGE) != 0) {
    if (errno != EINVAL && errno != ENOSYS) return ErrnoError(errno, "exchange", place);
    // A file system without exchange: for a moment there is neither, which is absent, not half.
    const std::string replaced = absl::StrCat(staging_, ".replaced");
    ABSL_RETURN_IF_ERROR(RemoveTree(replaced));
    ABSL_RETURN_IF_ERROR(Rename(place, replaced));
    ABSL_RETURN_IF_ERROR(Rename(staging_, place));
    staged_ = false;
    ABSL_RETURN_IF_ERROR(RemoveTree(replaced));
  }
  ABSL_RETURN_IF_ERROR(SyncDirectory(parent_));
  RemoveStaging();  // after an exchange: what was there before
  return absl::OkStatus();
}

absl::Status AtomicDirectory::MoveFilesIntoParent(const Manifest& manifest) {
  const std::string manifest_path = JoinPath(parent_, kManifestName);
  // One that cannot be read names nothing that could be removed safely.
  const Manifest before = ReadManifest(parent_).value_or(Manifest{});
  if (unlink(manifest_path.c_str()) != 0 && errno != ENOENT) {
    return ErrnoError(errno, "remove", manifest_path);
  }
  for (const auto& [name, file] : manifest) {
    ABSL_RETURN_IF_ERROR(Rename(JoinPath(staging_, name), JoinPath(parent_, name)));
  }
  for (const auto& [name, file] : before) {
    const std::string path = JoinPath(parent_, name);
    if (!manifest.contains(name) && unlink(path.c_str()) != 0 && errno != ENOENT) {
      return ErrnoError(errno, "remove", path);
    }
  }
  ABSL_RETURN_IF_ERROR(Rename(JoinPath(staging_, kManifestName), manifest_path));
  ABSL_RETURN_IF_ERROR(SyncDirectory(parent_));
  RemoveStaging();
  return absl::OkStatus();
}

absl::Status AtomicDirectory::Finish(bool into_parent) {
  if (Agree().ok()) {
    const std::vector<std::string> parts_of_ranks = group_.all_gather(PartsText(parts_));
    if (group_.rank == 0) {
      const absl::StatusOr<Manifest> manifest = MergeParts(parts_of_ranks);
      Fail(manifest.status());
      if (status_.ok()) Fail(WriteManifest(*manifest));
      if (status_.ok()) Fail(into_parent ? MoveFilesIntoParent(*manifest) : MoveIntoPlace());
    }
  }
  RemoveStaging();  // on rank 0, before any rank goes on
  return Agree();
}

absl::Status AtomicDirectory::Commit() { return Finish(/*into_parent=*/false); }

absl::Status AtomicDirectory::CommitIntoParent() { return Finish(/*into_parent=*/true); }

}  // namespace lathe
