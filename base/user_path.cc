#include "lathe/base/user_path.h"

#include <cstdlib>

namespace lathe {

std::string ResolveUserPath(std::string_view path) {
  const char* directory = std::getenv("BUILD_WORKING_DIRECTORY");
  if (path.empty() || path.front() == '/' || directory == nullptr || *directory == '\0') {
    return std::string(path);
  }
  while (path.starts_with("./")) {
    path.remove_prefix(2);
    while (path.starts_with("/")) path.remove_prefix(1);
  }
  std::string resolved = directory;
  if (path.empty() || path == ".") return resolved;
  if (resolved.back() != '/') resolved += '/';
  resolved += path;
  return resolved;
}

}  // namespace lathe
