// The smallest pretraining that is a whole one: a Llama of one layer and width 16, a byte-level
// tokenizer of 257 ids, 40 documents. A run of 14 updates in two epochs takes about a second, most
// of it the start of the process.
//
//   TinyPretraining tiny(NewFolder());
//   ProgramEnd end = RunProgram(kPretrain, {.arguments = tiny.Flags(out, {"--save_steps", "2"})});
#ifndef LATHE_TESTS_PROCESS_TINY_PRETRAINING_H_
#define LATHE_TESTS_PROCESS_TINY_PRETRAINING_H_

#include <string>
#include <vector>

#include "nlohmann/json.hpp"

namespace lathe {

// The program, as a test with //launchers:pretrain in its data finds it.
inline constexpr char kPretrain[] = "launchers/pretrain";

nlohmann::json TinyModelConfig(int num_layers = 1);
nlohmann::json TinyTokenizer();

class TinyPretraining {
 public:
  // Writes everything into `folder`.
  explicit TinyPretraining(const std::string& folder, int num_layers = 1);

  const std::string& model_folder() const {
    return model_folder_;
  }  // config.json and the tokenizer's files
  const std::string& train_file() const { return train_file_; }
  const std::string& validation_file() const { return validation_file_; }

  // 14 updates of 2 micro batches of 4 blocks of 32 tokens, 7 in each epoch, the last of them of 1
  // micro batch; a new model, a log line for each update, a checkpoint after every other. `more`
  // comes last; the flag of the same name before it then goes.
  std::vector<std::string> Flags(const std::string& output_dir,
                                 const std::vector<std::string>& more = {}) const;

 private:
  std::string model_folder_, train_file_, validation_file_;
};

}  // namespace lathe

#endif  // LATHE_TESTS_PROCESS_TINY_PRETRAINING_H_
