#ifndef LATHE_CHECKPOINT_ATOMIC_FILE_H_
#define LATHE_CHECKPOINT_ATOMIC_FILE_H_

// A file that is replaced as a whole: it is written under a hidden name beside its place and
// renamed when its content is on the disk. After a crash at any moment the old content is there, or
// the new.
//
//   ABSL_RETURN_IF_ERROR(WriteFileAtomically("out/trainer_state.json", json));
//
// Thread rule: one writer per path at a time, processes included.

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lathe/checkpoint/posix_file.h"

namespace lathe {

// What the names of unfinished files and folders start with. Whatever has such a name is a
// left-over and may be removed when no run uses the folder.
inline constexpr std::string_view kUnfinishedPrefix = ".lathe-tmp-";

class AtomicFile {
 public:
  // Starts writing what will be `path`; an unfinished one of a crashed run is removed.
  static absl::StatusOr<AtomicFile> Create(const std::string& path);

  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();  // not committed: the unfinished file is removed

  PosixFile& operator*() { return file_; }
  PosixFile* operator->() { return &file_; }

  // Syncs, closes and renames; when it fails `path` is what it was. Call once.
  absl::Status Commit();

 private:
  AtomicFile(std::string path, PosixFile file);

  std::string path_;
  PosixFile file_;
  bool unfinished_ = true;  // false after Commit and when moved from
};

// `bytes` as the content of `path`.
// Errors: what the system says, naming the path.
absl::Status WriteFileAtomically(const std::string& path, std::string_view bytes);

}  // namespace lathe

#endif  // LATHE_CHECKPOINT_ATOMIC_FILE_H_
