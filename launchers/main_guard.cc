#include "lathe/launchers/main_guard.h"

#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <new>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lathe {
namespace {

// Else the next file that is opened, a checkpoint maybe, would be standard output. Opening gives
// the lowest number that is free.
void OpenStandardDescriptors() {
  int descriptor;
  do {
    descriptor = open("/dev/null", O_RDWR);
  } while (descriptor >= 0 && descriptor <= 2);
  if (descriptor > 2) close(descriptor);
}

// LibTorch's messages go on with a stack trace, and say that memory is short in their own way.
std::string FirstLine(std::string_view text) {
  text = text.substr(0, text.find('\n'));
  constexpr std::string_view kNoMemory = "can't allocate memory: ";
  const size_t at = text.find(kNoMemory);
  if (at == std::string_view::npos) return std::string(text);
  return absl::StrCat("out of memory: ", text.substr(at + kNoMemory.size()));
}

int ExitCodeOf(const std::function<absl::StatusOr<int>()>& body) {
  try {
    const absl::StatusOr<int> exit_code = body();
    if (exit_code.ok()) return *exit_code;
    PrintError(exit_code.status().message());
  } catch (const std::bad_alloc&) {
    PrintError("out of memory");
  } catch (const std::exception& e) {
    PrintError(FirstLine(e.what()));
  }
  return kErrorExitCode;
}

}  // namespace

void PrintError(std::string_view message) {
  std::string line = absl::StrCat("error: ", message);
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  }
  std::fprintf(stderr, "%s\n", line.c_str());
}

void GuardedMain(const std::function<absl::StatusOr<int>()>& body) {
  OpenStandardDescriptors();
  std::signal(SIGPIPE, SIG_IGN);
  // Beyond a limit on file sizes writes fail with EFBIG, which is an error like a full disk.
  std::signal(SIGXFSZ, SIG_IGN);
  // For threads that are not ours: the transports' throw where nobody can catch it.
  std::set_terminate([] {
    try {
      if (const std::exception_ptr thrown = std::current_exception())
        std::rethrow_exception(thrown);
      PrintError("a thread ended without saying why");
    } catch (const std::exception& e) {
      PrintError(FirstLine(e.what()));
    } catch (...) {
      PrintError("a thread ended without saying why");
    }
    _exit(kErrorExitCode);
  });
  const int exit_code = ExitCodeOf(body);
  std::fflush(stdout);
  // Past the destructors of LibTorch's registries: a fifth of the time of a run that is refused.
  _exit(exit_code);
}

}  // namespace lathe
