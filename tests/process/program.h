// Another program, started by a test: signals to it, what it prints, how it ends and what it
// needed. Claims about death, signals, exit codes and memory are tested on the real process.
//
//   Program program = Program::Start("launchers/pretrain", {.arguments = {"--output_dir", out}});
//   ASSERT_TRUE(program.WaitForOutput("Start training", 30));
//   program.Signal(SIGTERM);
//   ProgramEnd end = program.Wait(60);
//   EXPECT_EQ(end.exit_code, 75) << end.Text();
//
// Processes that a program leaves behind become children of the test, so LiveDescendants sees them.
// Thread rule: one thread.
#ifndef LATHE_TESTS_PROCESS_PROGRAM_H_
#define LATHE_TESTS_PROCESS_PROGRAM_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

struct ProgramOptions {
  std::vector<std::string> arguments = {};              // without the program's name
  std::map<std::string, std::string> environment = {};  // beside the test's own
  std::string working_folder = {};                      // the test's own if empty
  std::vector<int> closed_descriptors = {};             // of 0, 1, 2: not open in the program
};

struct ProgramEnd {
  int exit_code = -1;  // -1 when a signal ended it
  int signal = 0;
  bool timed_out = false;  // Wait killed it and all that it had started
  double seconds = 0;      // from Start on
  int64_t peak_bytes =
      0;            // largest resident memory of the program and of each process that it waited for
  std::string out;  // standard output
  std::string err;  // standard error

  // Whether `text` is on one of the outputs; how often.
  bool Says(std::string_view text) const { return Count(text) > 0; }
  int Count(std::string_view text) const;
  // All of it, for a failure's message.
  std::string Text() const;
  // The lines of `err` that begin with "error:".
  std::vector<std::string> ErrorLines() const;
};

class Program {
 public:
  // `path` is relative to the test's folder. Fails the test, and ends it, when there is no such
  // program.
  static Program Start(const std::string& path, const ProgramOptions& options);

  Program(Program&& other) noexcept;
  Program& operator=(Program&&) = delete;
  ~Program();  // kills it if it still runs

  pid_t pid() const { return pid_; }
  double Seconds() const;  // since Start
  void Signal(int signal) const;

  // Whether `text` came on either output within `seconds`; false also when the program ended
  // without it.
  bool WaitForOutput(std::string_view text, double seconds) const;

  // Waits for the end. After `timeout_seconds` everything is killed.
  ProgramEnd Wait(double timeout_seconds = 120);

  // The process that was started for `rank` by this program, a launcher; -1 when there is none
  // (yet).
  pid_t Rank(int rank) const;

 private:
  Program() = default;

  pid_t pid_ = -1;
  double start_ = 0;
  std::string out_path_, err_path_;
};

// Starts the program and waits for its end.
ProgramEnd RunProgram(const std::string& path, const ProgramOptions& options,
                      double timeout_seconds = 120);

// Processes that live and whose parent, grandparent ... is this test, once what just ends has
// ended: waits up to `seconds` for there to be none.
std::vector<pid_t> LiveDescendants(double seconds = 0);

// A new, empty folder of this test.
std::string NewFolder();

// Whole files; a failure fails the test.
std::string ReadFile(const std::string& path);
void WriteFile(const std::string& path, std::string_view bytes);

}  // namespace lathe

#endif  // LATHE_TESTS_PROCESS_PROGRAM_H_
