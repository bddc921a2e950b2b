// Runs of //launchers:pretrain as a user starts them, for tests that look at what they leave.
//
//   const PretrainRun run = RunPretrain("plain", {"--model_name_or_path", "…", "--max_steps",
//   "3"}); ASSERT_EQ(run.exit_code, 0) << run.output; run.state["log_history"] …
//
// The test needs //launchers:pretrain in its data. Thread rule: one thread.
#ifndef LATHE_TESTS_PARITY_PRETRAIN_RUN_H_
#define LATHE_TESTS_PARITY_PRETRAIN_RUN_H_

#include <map>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "nlohmann/json.hpp"

namespace lathe {

struct PretrainRun {
  int exit_code = -1;    // 128 + signal if it was killed
  std::string folder;    // its --output_dir
  std::string output;    // what it printed
  nlohmann::json state;  // trainer_state.json of the folder; null if it left none
};

// Runs the program in TEST_TMPDIR/NAME with `flags`, --output_dir and flags that keep it quiet.
PretrainRun RunPretrain(const std::string& name, const std::vector<std::string>& flags);

// The same with another launcher ("finetune"), which the test needs in its data.
PretrainRun RunLauncher(const std::string& launcher, const std::string& name,
                        const std::vector<std::string>& flags);

// Any program that has --output_dir, with that and `flags` alone.
PretrainRun RunProgram(const std::string& program, const std::string& name,
                       const std::vector<std::string>& flags);

// The flags of the model, tokenizer and text in tests/goldens/parity, with evaluation data.
std::vector<std::string> GoldenFlags(const std::string& model);

// One flag per key of a JSON object: {"max_steps": 3} gives {"--max_steps", "3"}.
std::vector<std::string> FlagsFromJson(const nlohmann::json& arguments);

// The JSON in a file; null if it cannot be read.
nlohmann::json ReadJson(const std::string& path);

// model.safetensors of a folder, in fp64, by name. Fails the test if it cannot be read.
std::map<std::string, at::Tensor> ReadWeights(const std::string& file);

// One number of each log_history entry that has `key`, in order.
std::vector<double> History(const PretrainRun& run, const std::string& key);

}  // namespace lathe

#endif  // LATHE_TESTS_PARITY_PRETRAIN_RUN_H_
