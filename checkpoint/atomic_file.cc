#include "lathe/checkpoint/atomic_file.h"

#include <stdio.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"

namespace lathe {
namespace {

// The folder part of a path, "." when there is none.
std::string Folder(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

AtomicFile::AtomicFile(std::string path, PosixFile file)
    : path_(std::move(path)), file_(std::move(file)) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      file_(std::move(other.file_)),
      unfinished_(std::exchange(other.unfinished_, false)) {}

AtomicFile::~AtomicFile() {
  if (unfinished_) unlink(file_.path().c_str());
}

absl::StatusOr<AtomicFile> AtomicFile::Create(const std::string& path) {
  const std::string name = path.substr(path.rfind('/') + 1);  // npos + 1 is 0
  const std::string unfinished = JoinPath(Folder(path), absl::StrCat(kUnfinishedPrefix, name));
  if (unlink(unfinished.c_str()) != 0 && errno != ENOENT)
    return ErrnoError(errno, "remove", unfinished);
  ABSL_ASSIGN_OR_RETURN(PosixFile file, PosixFile::Create(unfinished));
  return AtomicFile(path, std::move(file));
}

absl::Status AtomicFile::Commit() {
  ABSL_RETURN_IF_ERROR(file_.Sync());
  ABSL_RETURN_IF_ERROR(file_.Close());
  if (rename(file_.path().c_str(), path_.c_str()) != 0) {
    return ErrnoError(errno, "rename to", path_);
  }
  unfinished_ = false;
  return SyncDirectory(Folder(path_));
}

absl::Status WriteFileAtomically(const std::string& path, std::string_view bytes) {
  ABSL_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  ABSL_RETURN_IF_ERROR(file->Allocate(bytes.size()));
  ABSL_RETURN_IF_ERROR(file->WriteAt(0, bytes));
  return file.Commit();
}

}  // namespace lathe
