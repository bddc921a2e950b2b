// LoopState: what a resumed run must know, beyond Hugging Face's TrainerState, to do and to log
// what the uninterrupted one would have. It is lathe_state.json in a checkpoint.
//
//   LoopState loop;
//   WriteFile("lathe_state.json", loop.ToJson());
//   ABSL_ASSIGN_OR_RETURN(loop, LoopState::FromJson(text, "out/checkpoint-100/lathe_state.json"));
//
// Thread rule: a value.
#ifndef LATHE_TRAINER_LOOP_STATE_H_
#define LATHE_TRAINER_LOOP_STATE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "lathe/zero/loss_scaler.h"

namespace lathe {

struct LoopState {
  // Sums of losses, so that the next log line and train_loss go on from them.
  double total_loss = 0;  // over all logged updates
  double loss_since_log = 0;
  int64_t steps_since_log = 0;  // updates whose loss is in it
  int64_t last_logged_step = 0;

  // Of the last update, for a log line at the end of an epoch. May be NaN.
  double last_grad_norm = 0;
  double last_learning_rate = 0;

  // Updates skipped because loss or gradient was not finite: in all, and the last ones without a
  // finite one between.
  int64_t nonfinite_steps = 0;
  int64_t nonfinite_in_a_row = 0;

  // The step after which the end of an epoch was last dealt with (logged, evaluated, saved). An
  // epoch's last update may have been saved before that.
  int64_t last_epoch_end_step = 0;

  // 1 where a signal came during the evaluation after the last update, so that it has to be made
  // again, and a checkpoint after it if that was due.
  int64_t evaluation_due = 0;
  int64_t save_due = 0;

  // fp16's loss scale, and the updates that an overflow under it has skipped: the learning rate's
  // schedule does not count them.
  LossScaler::State loss_scale;
  int64_t overflows = 0;

  // Whose states optimizer.safetensors has. Checkpointer sets and compares it.
  std::string optimizer = "adamw";

  std::string ToJson() const;

  // Errors: InvalidArgument with `source` and what is missing or wrong.
  static absl::StatusOr<LoopState> FromJson(std::string_view text, std::string_view source);

  friend bool operator==(const LoopState&, const LoopState&) = default;
};

}  // namespace lathe

#endif  // LATHE_TRAINER_LOOP_STATE_H_
