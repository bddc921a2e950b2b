#ifndef LATHE_BASE_CONFIG_FLAGS_H_
#define LATHE_BASE_CONFIG_FLAGS_H_

// The command line of a run: every leaf field of a configuration message is a flag by its own name.
//
//   RunConfig config;
//   const auto flags = ParseFlags(argc, argv, {.summary = "Pretrains ..."}, &config);
//   if (!flags.ok()) { std::cerr << flags.status().message() << "\n"; return 2; }
//   if (!flags->print.empty()) { std::cout << flags->print; return 0; }
//
// What is understood:
//   --learning_rate 1e-4   --learning_rate=1e-4   --learning-rate 1e-4    '-' and '_' are alike
//   --bf16   --bf16 false   --no_bf16   --nobf16                          booleans
//   --train_files a.jsonl b.jsonl   --train_files a --train_files b       lists
//   --max_steps -1   --max_steps 2e3                                      negative, 2e3-like
//   --evaluation_strategy no                                              older spellings (aliases)
//   --config run.json                         a JSON or textproto file; flags win over it
//   --help [GROUP]   --explain NAME           text for the user
// Refused, each by name: unknown flags (all of them at once, with suggestions), flags that this
// version does not implement unless their value asks for nothing, values of a wrong type or out of
// bounds, scalars given twice, and arguments that belong to no flag.
//
// Values already in the message when it is handed over are this program's defaults: --help shows
// them. Pure but for the message, --config's file and the environment that ResolveUserPath reads.

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "google/protobuf/message.h"

namespace lathe {

struct FlagsOptions {
  // One or two sentences on what the program does, the head of --help.
  std::string_view summary = "";
  // A command line to try, shown by --help.
  std::string_view example = "";
  // Columns of --help; 0 asks the terminal, and means 100 when output is none.
  int width = 0;
  // Bold and dim text in --help; nullopt: when standard output is a terminal and NO_COLOR is not
  // set.
  std::optional<bool> colour = std::nullopt;
};

struct ParsedFlags {
  // When not empty, the user asked for this text: print it and exit with 0.
  std::string print;
};

// Parses argv[1..] into `config`. Path fields, defaults too, come out resolved (ResolveUserPath).
// Errors: InvalidArgument or NotFound whose message is one line for the user; FailedPrecondition
// when the message type breaks a rule of options.proto. `config` is then partly set.
absl::StatusOr<ParsedFlags> ParseFlags(int argc, const char* const* argv,
                                       const FlagsOptions& options,
                                       google::protobuf::Message* config);

}  // namespace lathe

#endif  // LATHE_BASE_CONFIG_FLAGS_H_
