#include "lathe/base/process_start.h"

#include <time.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

namespace lathe {
namespace {

double BootSeconds() {
  timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

const double load_seconds = BootSeconds();

// Field 22 of /proc/self/stat, in ticks since boot; the second field may hold spaces, so count from
// its closing bracket.
double StartSeconds() {
  std::ifstream file("/proc/self/stat");
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const size_t bracket = text.rfind(')');
  if (bracket == std::string::npos) return load_seconds;
  std::istringstream fields(text.substr(bracket + 1));
  std::string field;
  for (int number = 3; number <= 22; ++number) {
    if (!(fields >> field)) return load_seconds;
  }
  return std::stod(field) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace

double SecondsSinceProcessStart() { return BootSeconds() - StartSeconds(); }

}  // namespace lathe
