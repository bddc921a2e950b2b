#include "lathe/checkpoint/posix_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <limits>
#include <system_error>
#include <utility>

#include "absl/status/status_macros.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "lathe/base/beacon.h"

namespace lathe {
namespace {

// The largest file offset that the system can express.
constexpr uint64_t kMaxOffset = std::numeric_limits<int64_t>::max();

int OpenRetrying(const std::string& path, int flags) {
  int descriptor;
  do {
    descriptor = open(path.c_str(), flags | O_CLOEXEC, 0666);
  } while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

// How much an ordinary user may still write next to `descriptor`, for messages.
std::string FreeSpaceNote(int descriptor) {
  struct statvfs space;
  if (fstatvfs(descriptor, &space) != 0) return "";
  const uint64_t free_bytes = static_cast<uint64_t>(space.f_bavail) * space.f_frsize;
  return absl::StrCat(" (", free_bytes, " bytes are free)");
}

}  // namespace

std::string Printable(std::string_view text) {
  constexpr size_t kMaxLength = 120;
  if (text.size() <= kMaxLength) return absl::Utf8SafeCHexEscape(text);
  size_t length = kMaxLength;
  // Not through the middle of a UTF-8 character.
  while (length > 0 && (static_cast<unsigned char>(text[length]) & 0xC0) == 0x80) --length;
  return absl::StrCat(absl::Utf8SafeCHexEscape(text.substr(0, length)), "...");
}

absl::Status ErrnoError(int error_number, std::string_view verb, std::string_view path) {
  return absl::ErrnoToStatus(error_number,
                             absl::StrCat("cannot ", verb, " ", absl::Utf8SafeCHexEscape(path)));
}

PosixFile::PosixFile(std::string path, int descriptor)
    : path_(std::move(path)), descriptor_(descriptor) {}

PosixFile::PosixFile(PosixFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

PosixFile& PosixFile::operator=(PosixFile&& other) noexcept {
  if (this != &other) {
    if (descriptor_ >= 0) close(descriptor_);
    path_ = std::move(other.path_);
    descriptor_ = std::exchange(other.descriptor_, -1);
  }
  return *this;
}

PosixFile::~PosixFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

absl::StatusOr<PosixFile> PosixFile::OpenForReading(const std::string& path) {
  // O_NONBLOCK: opening a named pipe that nobody writes must not hang; it means nothing for files.
  const int descriptor = OpenRetrying(path, O_RDONLY | O_NONBLOCK);
  if (descriptor < 0) return ErrnoError(errno, "open", path);
  PosixFile file(path, descriptor);
  struct stat info;
  if (fstat(descriptor, &info) != 0) return ErrnoError(errno, "look at", path);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(absl::Utf8SafeCHexEscape(path), " is not a regular file"));
  }
  return file;
}

absl::StatusOr<PosixFile> PosixFile::OpenForWriting(const std::string& path) {
  const int descriptor = OpenRetrying(path, O_WRONLY);
  if (descriptor < 0) return ErrnoError(errno, "open", path);
  return PosixFile(path, descriptor);
}

absl::StatusOr<PosixFile> PosixFile::Create(const std::string& path) {
  const int descriptor = OpenRetrying(path, O_WRONLY | O_CREAT | O_EXCL);
  if (descriptor < 0) return ErrnoError(errno, "create", path);
  return PosixFile(path, descriptor);
}

absl::StatusOr<uint64_t> PosixFile::Size() const {
  struct stat info;
  if (fstat(descriptor_, &info) != 0) return ErrnoError(errno, "look at", path_);
  return static_cast<uint64_t>(info.st_size);
}

absl::Status PosixFile::ReadAt(uint64_t offset, absl::Span<char> bytes) const {
  size_t done = 0;
  while (done < bytes.size()) {
    if (offset > kMaxOffset - done) return absl::OutOfRangeError("file offset beyond 2^63");
    const ssize_t got = pread(descriptor_, bytes.data() + done, bytes.size() - done,
                              static_cast<off_t>(offset + done));
    GiveSign();
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoError(errno, "read", path_);
    if (got == 0) {
      return absl::DataLossError(absl::StrCat(absl::Utf8SafeCHexEscape(path_), " ends at byte ",
                                              offset + done, ", expected ", bytes.size() - done,
                                              " more: it was truncated while in use"));
    }
    done += static_cast<size_t>(got);
  }
  return absl::OkStatus();
}

absl::Status PosixFile::WriteAt(uint64_t offset, std::string_view bytes) const {
  size_t done = 0;
  while (done < bytes.size()) {
    if (offset > kMaxOffset - done) return absl::OutOfRangeError("file offset beyond 2^63");
    const ssize_t put = pwrite(descriptor_, bytes.data() + done, bytes.size() - done,
                               static_cast<off_t>(offset + done));
    GiveSign();
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return ErrnoError(errno, "write", path_);
    // A file system that accepts nothing and reports nothing would loop for ever.
    if (put == 0) return ErrnoError(ENOSPC, "write", path_);
    done += static_cast<size_t>(put);
  }
  return absl::OkStatus();
}

absl::Status PosixFile::Allocate(uint64_t bytes) const {
  if (bytes > kMaxOffset) return absl::OutOfRangeError("file size beyond 2^63");
  int result;
  // fallocate and not posix_fallocate: glibc's emulation of the latter writes every block.
  do {
    result = bytes == 0 ? 0 : fallocate(descriptor_, 0, 0, static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  if (result != 0 && errno == EOPNOTSUPP) {
    do {
      result = ftruncate(descriptor_, static_cast<off_t>(bytes));
    } while (result != 0 && errno == EINTR);
  }
  if (result == 0) return absl::OkStatus();
  const int error_number = errno;
  return ErrnoError(error_number,
                    absl::StrCat("reserve ", bytes, " bytes",
                                 error_number == ENOSPC ? FreeSpaceNote(descriptor_) : "", " for"),
                    path_);
}

absl::Status PosixFile::Sync() const {
  // No retry after a failure: the kernel may have dropped the dirty pages, and a second fsync would
  // then report success for data that is lost.
  if (fsync(descriptor_) != 0) return ErrnoError(errno, "sync", path_);
  GiveSign();
  return absl::OkStatus();
}

absl::Status PosixFile::Close() {
  const int descriptor = std::exchange(descriptor_, -1);
  // EINTR means closed on Linux; the number must not be closed again.
  if (descriptor >= 0 && close(descriptor) != 0 && errno != EINTR) {
    return ErrnoError(errno, "close", path_);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, uint64_t max_bytes) {
  ABSL_ASSIGN_OR_RETURN(const PosixFile file, PosixFile::OpenForReading(path));
  ABSL_ASSIGN_OR_RETURN(const uint64_t size, file.Size());
  if (size > max_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(absl::Utf8SafeCHexEscape(path), " has ", size,
                                                   " bytes, expected at most ", max_bytes));
  }
  std::string content(size, '\0');
  ABSL_RETURN_IF_ERROR(file.ReadAt(0, absl::MakeSpan(content)));
  return content;
}

absl::Status SyncDirectory(const std::string& path) {
  const int descriptor = OpenRetrying(path, O_RDONLY | O_DIRECTORY);
  if (descriptor < 0) return ErrnoError(errno, "open", path);
  const int result = fsync(descriptor);
  const int error_number = errno;
  close(descriptor);
  if (result != 0) return ErrnoError(error_number, "sync", path);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path) {
  DIR* const directory = opendir(path.c_str());
  if (directory == nullptr) return ErrnoError(errno, "list", path);
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = readdir(directory)) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
    errno = 0;
  }
  const int error_number = errno;
  closedir(directory);
  if (error_number != 0) return ErrnoError(error_number, "list", path);
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status MakeDirectories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return ErrnoError(error.value(), "create folder", path);
  return absl::OkStatus();
}

absl::Status RemoveTree(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) return ErrnoError(error.value(), "remove", path);
  return absl::OkStatus();
}

bool PathExists(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0;
}

std::string JoinPath(std::string_view directory, std::string_view name) {
  if (directory.empty()) return std::string(name);
  return absl::StrCat(directory, directory.back() == '/' ? "" : "/", name);
}

bool IsPlainFileName(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\0", 2)) == std::string_view::npos;
}

}  // namespace lathe
