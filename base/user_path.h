#ifndef LATHE_BASE_USER_PATH_H_
#define LATHE_BASE_USER_PATH_H_

// Paths that a user types are relative to where the user stands. `bazel run` starts a program
// inside its runfiles and says where the user was in BUILD_WORKING_DIRECTORY; started by hand, the
// program's own working directory is the right one and that variable is not set.
//
//   std::ifstream file(ResolveUserPath(arguments.output_dir()));
//
// Reads the environment only: call from any thread.

#include <string>
#include <string_view>

namespace lathe {

// `path` itself when it is absolute or empty or the program was not started by `bazel run`;
// otherwise `path` below the user's directory. "~" is left alone: expanding it is the shell's work.
std::string ResolveUserPath(std::string_view path);

}  // namespace lathe

#endif  // LATHE_BASE_USER_PATH_H_
