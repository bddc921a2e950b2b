// ParallelLayout: the degrees of parallelism of a run, and whether a model, its batches and so many
// processes can be split that way. Pure arithmetic: asked before anything is started or allocated.
//
//   ABSL_RETURN_IF_ERROR(CheckLayout(config, {.world_size = 8,
//                                             .tensor_model_parallel_size = 2,
//                                             .pipeline_model_parallel_size = 2,
//                                             .num_micro_batches = 16}));
//
// Thread-safe.
#ifndef LATHE_MODELS_PARALLEL_LAYOUT_H_
#define LATHE_MODELS_PARALLEL_LAYOUT_H_

#include <cstdint>

#include "absl/status/status.h"
#include "lathe/models/model_config.h"

namespace lathe {

// Named as the flags are.
struct ParallelLayout {
  int world_size = 1;
  int tensor_model_parallel_size = 1;
  int pipeline_model_parallel_size = 1;
  bool sequence_parallel = false;
  int num_layers_per_virtual_pipeline_stage = 0;  // 0: each stage is one contiguous piece
  int64_t num_micro_batches = 1;                  // of an update
  int64_t seq_len = 0;                            // of a sample; 0 where no length is known yet
};

// Errors: InvalidArgument, in one line that says which number to change:
// - the processes are no multiple of tensor x pipeline;
// - num_attention_heads or intermediate_size does not divide by the tensor degree, or
//   num_key_value_heads neither divides by it nor divides it, or the vocabulary leaves a rank
//   without a row; the line lists the degrees that would do;
// - sequence parallel, and the sequence does not divide by the tensor degree;
// - fewer layers than stages, layers that do not divide into the virtual stages, or an interleaved
//   schedule whose micro batches do not divide by the stages.
absl::Status CheckLayout(const ModelConfig& config, const ParallelLayout& layout);

}  // namespace lathe

#endif  // LATHE_MODELS_PARALLEL_LAYOUT_H_
