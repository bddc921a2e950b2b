// The bar for bad input: one line that begins with "error:" and names what is wrong, exit code 2,
// within 10 seconds and 1 GB, no signal, no process left, nothing half-written in the output
// folder.
//
//   ExpectRefusal(RunProgram(kPretrain, {.arguments = flags}), {"config.json", "hidden_size"},
//   out);
#ifndef LATHE_TESTS_BAD_INPUT_REFUSAL_H_
#define LATHE_TESTS_BAD_INPUT_REFUSAL_H_

#include <string>
#include <vector>

#include "lathe/tests/process/program.h"

namespace lathe {

// `words`: what the line must hold. `num_ranks`: each rank may say it, since each finds it. An
// empty `output_dir` is not looked at.
void ExpectRefusal(const ProgramEnd& end, const std::vector<std::string>& words,
                   const std::string& output_dir, int num_ranks = 1);

}  // namespace lathe

#endif  // LATHE_TESTS_BAD_INPUT_REFUSAL_H_
