#ifndef LATHE_BASE_READ_FILE_H_
#define LATHE_BASE_READ_FILE_H_

// A small file as a string.

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace lathe {

inline constexpr int64_t kReadFileLimit = int64_t{1} << 30;

// The bytes of the regular file `path`.
// Errors: NotFound, PermissionDenied or the system's own code, "PATH: what the system says";
// InvalidArgument for a folder, a device, or more than `max_bytes`. Any thread.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes = kReadFileLimit);

}  // namespace lathe

#endif  // LATHE_BASE_READ_FILE_H_
