// DeepSpeed's own checkpoints, which are pickles and never read: how to tell one, and the way out.
//
//   ABSL_RETURN_IF_ERROR(RefuseDeepSpeedCheckpoint("output/checkpoint-500"));
//
// Thread rule: reads a folder; call from any thread.
#ifndef LATHE_CHECKPOINT_DEEPSPEED_CHECKPOINT_H_
#define LATHE_CHECKPOINT_DEEPSPEED_CHECKPOINT_H_

#include <string>

#include "absl/status/status.h"

namespace lathe {

// OK if `directory` is none, or cannot be listed. FailedPrecondition for a folder in which
// DeepSpeed saved (`global_step500/`, `latest`, `zero_to_fp32.py`), or one of its `global_step500`
// itself, with the command that makes safetensors of it.
//
// Source: DeepSpeed 0.19.8, runtime/engine.py save_checkpoint, utils/zero_to_fp32.py.
absl::Status RefuseDeepSpeedCheckpoint(const std::string& directory);

}  // namespace lathe

#endif  // LATHE_CHECKPOINT_DEEPSPEED_CHECKPOINT_H_
