#include "lathe/base/runfiles.h"

#include <cstdlib>
#include <filesystem>
#include <vector>

namespace lathe {

std::string RunfilePath(const std::string& argv0, std::string_view path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  std::vector<fs::path> roots;
  for (const char* variable : {"RUNFILES_DIR", "TEST_SRCDIR"}) {
    const char* value = std::getenv(variable);
    if (value != nullptr && *value != '\0') roots.emplace_back(value);
  }
  roots.push_back(fs::absolute(argv0, ignored).string() + ".runfiles");
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored);
  if (!program.empty()) roots.push_back(program.string() + ".runfiles");
  roots.push_back(fs::current_path(ignored).parent_path());
  for (const fs::path& root : roots) {
    if (fs::exists(root / path, ignored)) return fs::absolute(root / path, ignored).string();
  }
  return std::string(path);
}

}  // namespace lathe
