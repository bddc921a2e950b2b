// The Llama family: Llama, Qwen2 and whatever differs from them by configuration only (biases, tied
// head, head_dim, rotary kind). Names and mathematics are those of transformers' LlamaForCausalLM
// and Qwen2ForCausalLM.
#ifndef LATHE_MODELS_LLAMA_LLAMA_STAGE_H_
#define LATHE_MODELS_LLAMA_LLAMA_STAGE_H_

#include <memory>

#include "lathe/comm/parallel_context.h"
#include "lathe/layers/block_runner.h"
#include "lathe/models/stage.h"

namespace lathe {

// The parts of the model that `context` and the options assign to this rank, with uninitialised
// parameters of `dtype` (then Initialize or LoadPretrained). `context` and `runner` must outlive
// the stage. Sizes must divide by the tensor-parallel degree (TORCH_CHECK; BuildModel has validated
// them).
std::unique_ptr<Stage> MakeLlamaStage(const ModelConfig& config, const ParallelContext& context,
                                      at::ScalarType dtype, BlockRunner& runner,
                                      const StageOptions& options);

}  // namespace lathe

#endif  // LATHE_MODELS_LLAMA_LLAMA_STAGE_H_
