#include "lathe/checkpoint/output_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/base/logging.h"
#include "lathe/checkpoint/posix_file.h"

namespace lathe {
namespace {

std::string ThisProcess() {
  char host[256] = "an unknown host";
  gethostname(host, sizeof host - 1);
  return absl::StrCat("process ", getpid(), " on ", host);
}

// What the holder wrote about itself.
std::string Holder(int descriptor) {
  char text[512];
  const ssize_t length = pread(descriptor, text, sizeof text, 0);
  if (length <= 0) return "another process";
  return Printable(std::string_view(text, static_cast<size_t>(length)));
}

}  // namespace

OutputLock::OutputLock(OutputLock&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

OutputLock::~OutputLock() {
  if (descriptor_ >= 0) close(descriptor_);
}

absl::StatusOr<OutputLock> OutputLock::Acquire(const std::string& output_dir) {
  ABSL_RETURN_IF_ERROR(MakeDirectories(output_dir));
  const std::string path = JoinPath(output_dir, kOutputLockName);
  // Close-on-exec: a program that this process starts must not keep the lock alive.
  // A link would have its target overwritten.
  const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (descriptor < 0) return ErrnoError(errno, "open", path);
  OutputLock lock(descriptor);
  if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      return absl::FailedPreconditionError(
          absl::StrCat("output folder ", output_dir, " is in use by ", Holder(descriptor),
                       "; wait for it to end or choose another --output_dir"));
    }
    LOG(WARNING) << ErrnoError(errno, "lock", path).message()
                 << "; make sure that no other run uses this folder";
    return lock;
  }
  const std::string holder = ThisProcess();
  // For the message above only, so a full disk is no reason to stop here.
  if (ftruncate(descriptor, 0) != 0 ||
      pwrite(descriptor, holder.data(), holder.size(), 0) != static_cast<ssize_t>(holder.size())) {
    LOG(WARNING) << ErrnoError(errno, "write", path).message();
  }
  return lock;
}

}  // namespace lathe
