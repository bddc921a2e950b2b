#ifndef LATHE_TRAINER_TRAINER_STATE_H_
#define LATHE_TRAINER_TRAINER_STATE_H_

// Where a run stands and what it has logged: Hugging Face's TrainerState, and trainer_state.json
// byte for byte as Hugging Face writes it.
//
//   TrainerState state;
//   state.global_step = 5;
//   state.log_history.push_back({{"loss", 2.5}, {"epoch", 0.5}, {"step", 5}});
//   std::string text = state.ToJson();
//   ABSL_ASSIGN_OR_RETURN(TrainerState again, TrainerState::FromJson(text, path));
//
// A plain value; not synchronised.
//
// Source: transformers 5.17 trainer_callback.py, TrainerState.save_to_json.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace lathe {

struct TrainerState {
  // Epochs done, with the fraction of the current one, counted in micro batches.
  double epoch = 0;
  // Updates done, and to be done.
  int64_t global_step = 0;
  int64_t max_steps = 0;
  int64_t num_train_epochs = 0;

  // In updates; shares of the run are already multiplied out.
  int64_t logging_steps = 500;
  int64_t eval_steps = 500;
  int64_t save_steps = 500;

  std::optional<int64_t> train_batch_size;
  int64_t num_input_tokens_seen = 0;
  double total_flos = 0;

  // One object per log call: "loss", "grad_norm", "learning_rate", "epoch", "step" ... Integers
  // stay integers and floats floats, as in Python.
  std::vector<nlohmann::json> log_history;

  std::optional<double> best_metric;
  std::optional<int64_t> best_global_step;
  std::optional<std::string> best_model_checkpoint;

  bool is_local_process_zero = true;
  bool is_world_process_zero = true;

  // By class name: {"args": {...}, "attributes": {...}}.
  nlohmann::json stateful_callbacks = nlohmann::json::object();

  // The text of trainer_state.json: sorted keys, indented by two, a newline at the end.
  std::string ToJson() const;

  // Reads what ToJson or Hugging Face wrote; `source` is what messages call the text. Keys of other
  // versions are ignored.
  // Errors: InvalidArgument, naming source and key, for text that is no JSON object, a value of a
  // wrong type, or a missing global_step, epoch or log_history, which cannot be guessed.
  static absl::StatusOr<TrainerState> FromJson(std::string_view text, std::string_view source);
};

// Which of the arguments that a state holds this run has otherwise than its checkpoint, as a line;
// "" when none. Source: transformers trainer_utils.py, compare_trainer_and_checkpoint_args.
std::string DifferentArguments(const TrainerState& run, const TrainerState& checkpoint);

}  // namespace lathe

#endif  // LATHE_TRAINER_TRAINER_STATE_H_
