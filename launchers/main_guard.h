// What surrounds the work of every main: a process whose outputs may be closed, and errors as one
// line.
//
//   int main(int argc, char** argv) {
//     lathe::GuardedMain([&]() -> absl::StatusOr<int> { ... return 0; });
//   }
#ifndef LATHE_LAUNCHERS_MAIN_GUARD_H_
#define LATHE_LAUNCHERS_MAIN_GUARD_H_

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace lathe {

// Exit code of a run that ends with an error.
inline constexpr int kErrorExitCode = 2;

// Runs `body` and ends the process with its exit code; an error, or an exception, becomes one line
// on standard error, "error: MESSAGE", and kErrorExitCode. What `body` holds is destroyed before;
// static objects are not. A reader of the outputs that goes away (`| head`)
// does not end the process, and where standard input or an output is closed no file of the run gets
// its number.
[[noreturn]] void GuardedMain(const std::function<absl::StatusOr<int>()>& body);

// Prints "error: MESSAGE" as one line: line breaks and other control characters become spaces.
void PrintError(std::string_view message);

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_MAIN_GUARD_H_
