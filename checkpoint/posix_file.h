#ifndef LATHE_CHECKPOINT_POSIX_FILE_H_
#define LATHE_CHECKPOINT_POSIX_FILE_H_

// Files and folders with every result checked: the only place where checkpoints touch the operating
// system. A short read or write is an error or is continued, never passed over, and every message
// names the path and the reason ("cannot write out/model.safetensors: No space left on device").
//
//   ABSL_ASSIGN_OR_RETURN(PosixFile file, PosixFile::Create(path));
//   ABSL_RETURN_IF_ERROR(file.Allocate(bytes));       // a full disk is found here, not half way
//   ABSL_RETURN_IF_ERROR(file.WriteAt(0, header));
//   ABSL_RETURN_IF_ERROR(file.Sync());
//   ABSL_RETURN_IF_ERROR(file.Close());
//
// Thread rule: ReadAt and WriteAt carry their own offset and may be called from several threads on
// one file; the rest belongs to one thread at a time.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace lathe {

class PosixFile {
 public:
  // Errors: NotFound, or what the system says; InvalidArgument when the path is not a regular file
  // (a named pipe would block for ever).
  static absl::StatusOr<PosixFile> OpenForReading(const std::string& path);
  // An existing file, for writing in place.
  static absl::StatusOr<PosixFile> OpenForWriting(const std::string& path);
  // A new file.
  // Errors: AlreadyExists when there is one.
  static absl::StatusOr<PosixFile> Create(const std::string& path);

  PosixFile(PosixFile&& other) noexcept;
  PosixFile& operator=(PosixFile&& other) noexcept;
  ~PosixFile();  // closes without a check: writers call Close()

  const std::string& path() const { return path_; }
  int descriptor() const { return descriptor_; }
  // Size in bytes now. Another process may change it at any time.
  absl::StatusOr<uint64_t> Size() const;

  // Fills `bytes` from `offset`.
  // Errors: DataLoss when the file ends before.
  absl::Status ReadAt(uint64_t offset, absl::Span<char> bytes) const;

  // Writes all of `bytes` at `offset`.
  // Errors: ResourceExhausted on a full disk.
  absl::Status WriteAt(uint64_t offset, std::string_view bytes) const;

  // Makes the file `bytes` long and reserves the space where the file system can.
  // Errors: ResourceExhausted when the disk has not that much.
  absl::Status Allocate(uint64_t bytes) const;

  // Returns when the content is on the disk. Errors found by earlier writes come out here as well.
  absl::Status Sync() const;

  absl::Status Close();

 private:
  PosixFile(std::string path, int descriptor);

  std::string path_;
  int descriptor_ = -1;
};

// "cannot VERB PATH: REASON" from errno. The path is escaped, so the message stays one line.
absl::Status ErrnoError(int error_number, std::string_view verb, std::string_view path);

// The whole file.
// Errors: as OpenForReading; InvalidArgument when it is longer than `max_bytes`.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, uint64_t max_bytes);

// Makes the entries of a folder (a created, renamed or removed name) lasting.
absl::Status SyncDirectory(const std::string& path);

// Names in a folder without "." and "..", sorted.
// Errors: NotFound and what the system says.
absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path);

absl::Status MakeDirectories(const std::string& path);  // mkdir -p
absl::Status RemoveTree(const std::string& path);       // rm -rf, not through links; absent is fine
bool PathExists(const std::string& path);

// "DIRECTORY/NAME".
std::string JoinPath(std::string_view directory, std::string_view name);

// True for a name that stays in its folder: not empty, no '/', no NUL, not "." or "..".
bool IsPlainFileName(std::string_view name);

// `text` made fit for a message: control characters escaped, cut after 120 bytes.
std::string Printable(std::string_view text);

}  // namespace lathe

#endif  // LATHE_CHECKPOINT_POSIX_FILE_H_
