#ifndef LATHE_CHECKPOINT_OUTPUT_LOCK_H_
#define LATHE_CHECKPOINT_OUTPUT_LOCK_H_

// One run at a time per output folder. The lock is the system's (flock), not the file's existence:
// it ends with its process however that dies, so a stale file never blocks.
//
//   ABSL_ASSIGN_OR_RETURN(OutputLock lock, OutputLock::Acquire("out"));   // for the whole run
//
// Thread rule: a value, held by one process per run (the launcher or rank 0).

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace lathe {

inline constexpr std::string_view kOutputLockName = ".lathe.lock";

class OutputLock {
 public:
  // Makes the folder where needed. Where the file system has no locks, warns and goes on.
  // Errors: FailedPrecondition naming process and host of the run that holds the lock; what the
  // system says when the folder cannot be written.
  static absl::StatusOr<OutputLock> Acquire(const std::string& output_dir);

  OutputLock(OutputLock&& other) noexcept;
  OutputLock& operator=(OutputLock&&) = delete;
  ~OutputLock();  // releases; the file stays, since removing it would race with the next run

 private:
  explicit OutputLock(int descriptor) : descriptor_(descriptor) {}

  int descriptor_;
};

}  // namespace lathe

#endif  // LATHE_CHECKPOINT_OUTPUT_LOCK_H_
