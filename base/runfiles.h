// Where the files that were built beside a program (its runfiles) lie.
#ifndef LATHE_BASE_RUNFILES_H_
#define LATHE_BASE_RUNFILES_H_

#include <string>
#include <string_view>

namespace lathe {

// The absolute path of runfile `path` ("lathe/launchers/configs/…": workspace first), looked for in
// RUNFILES_DIR, TEST_SRCDIR, ARGV0.runfiles beside the program, and above the working directory
// (`bazel run` starts there). If it is nowhere, `path` itself: opening it then gives the error.
// Reads environment and file system only.
std::string RunfilePath(const std::string& argv0, std::string_view path);

}  // namespace lathe

#endif  // LATHE_BASE_RUNFILES_H_
