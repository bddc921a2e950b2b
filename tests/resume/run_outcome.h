// What an interrupted and continued run must share with an uninterrupted one, to the bit.
//
//   const RunOutcome wanted = ReadRunOutcome(reference);
//   ... kill, start again, until it ends with exit code 0 ...
//   ExpectSameOutcome(wanted, ReadRunOutcome(out));
#ifndef LATHE_TESTS_RESUME_RUN_OUTCOME_H_
#define LATHE_TESTS_RESUME_RUN_OUTCOME_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

namespace lathe {

struct RunOutcome {
  std::map<std::string, std::string>
      files;  // bytes: model and optimizer of the last checkpoint, the final model, the sums
  nlohmann::json history;  // log_history at the end, without what a clock measured
  int64_t last_checkpoint = 0;
};

// Of a run that has ended; what is missing fails the test.
RunOutcome ReadRunOutcome(const std::string& output_dir);

void ExpectSameOutcome(const RunOutcome& wanted, const RunOutcome& found);

// The N of the checkpoint-N in `output_dir`, ascending.
std::vector<int64_t> CheckpointsIn(const std::string& output_dir);

// Every checkpoint-N in `output_dir` must be complete and as it was written.
void ExpectWholeCheckpoints(const std::string& output_dir);

// Nothing unfinished lies in `output_dir`.
void ExpectNoLeftovers(const std::string& output_dir);

}  // namespace lathe

#endif  // LATHE_TESTS_RESUME_RUN_OUTCOME_H_
