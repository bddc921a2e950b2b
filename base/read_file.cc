#include "lathe/base/read_file.h"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lathe {

absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) {
    return absl::NotFoundError(absl::StrCat(path, ": no such file"));
  }
  if (error) return absl::ErrnoToStatus(error.value(), path);
  if (!std::filesystem::is_regular_file(status)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is not a regular file"));
  }
  const uintmax_t bytes = std::filesystem::file_size(path, error);
  if (error) return absl::ErrnoToStatus(error.value(), path);
  if (bytes > static_cast<uintmax_t>(max_bytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": has ", bytes, " bytes; expected at most ", max_bytes));
  }
  errno = 0;
  std::ifstream stream(path, std::ios::binary);
  std::string text(bytes, '\0');
  if (!stream || (bytes > 0 && !stream.read(text.data(), static_cast<std::streamsize>(bytes)))) {
    return absl::ErrnoToStatus(errno != 0 ? errno : EIO, path);
  }
  return text;
}

}  // namespace lathe
