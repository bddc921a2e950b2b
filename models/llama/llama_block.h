// One decoder block: x + attention(norm(x)), then + mlp(norm(·)). Private to llama_stage.
#ifndef LATHE_MODELS_LLAMA_LLAMA_BLOCK_H_
#define LATHE_MODELS_LLAMA_LLAMA_BLOCK_H_

#include <memory>
#include <string>
#include <vector>

#include "lathe/comm/communicator.h"
#include "lathe/layers/block_runner.h"
#include "lathe/models/common/rotary_embedding.h"
#include "lathe/models/model_config.h"
#include "lathe/models/stage.h"
#include "lathe/tensor_parallel/column_parallel_linear.h"
#include "lathe/tensor_parallel/row_parallel_linear.h"

namespace lathe {

class LlamaBlock {
 public:
  LlamaBlock(const ModelConfig& config, int index, const Communicator& tp,
             at::TensorOptions tensor_options, const StageOptions& options);

  // x [batch, seq, hidden], or [batch, seq / tp, hidden] under sequence parallelism → the same.
  at::Tensor Forward(const at::Tensor& x, const RotaryTable& rotary);

  const std::vector<Parameter*>& parameters() const { return parameters_; }

 private:
  at::Tensor Attention(const at::Tensor& x, const RotaryTable& rotary);
  at::Tensor Mlp(const at::Tensor& x);

  const int index_;
  const int64_t head_dim_;
  const double eps_;
  std::unique_ptr<Parameter> input_norm_, post_norm_;
  ColumnParallelLinear q_, k_, v_;
  RowParallelLinear o_;
  ColumnParallelLinear gate_, up_;
  RowParallelLinear down_;
  std::vector<Parameter*> parameters_, mlp_parameters_;
  PlainRunner plain_;
  RecomputeRunner recompute_{plain_};
  BlockRunner& mlp_runner_;
};

// A norm's scale, replicated over the tensor ranks, of which rank 0 saves it. Where each rank norms
// a part of the sequence, its gradient is a part of a sum over them.
std::unique_ptr<Parameter> MakeNormWeight(const std::string& name, int64_t size,
                                          const Communicator& tp, at::TensorOptions tensor_options,
                                          const StageOptions& options);

}  // namespace lathe

#endif  // LATHE_MODELS_LLAMA_LLAMA_BLOCK_H_
