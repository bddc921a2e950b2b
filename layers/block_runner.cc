#include "lathe/layers/block_runner.h"

namespace lathe {

TensorList PlainRunner::Run(int, const std::vector<Parameter*>&, const TensorList& inputs,
                            const BlockFunction& fn) {
  return fn(inputs);
}

TensorList PlainRunner::RunForwardOnly(const std::vector<Parameter*>&, const TensorList& inputs,
                                       const BlockFunction& fn) {
  return fn(inputs);
}

TensorList RecomputeRunner::RunForwardOnly(const std::vector<Parameter*>& parameters,
                                           const TensorList& inputs, const BlockFunction& fn) {
  return inner_.RunForwardOnly(parameters, inputs, fn);
}

TensorList RecomputeRunner::Run(int block, const std::vector<Parameter*>& parameters,
                                const TensorList& inputs, const BlockFunction& fn) {
  if (block >= num_blocks_) return inner_.Run(block, parameters, inputs, fn);
  TensorList outputs = NoGrad([&] { return inner_.Run(block, parameters, inputs, fn); });
  // A trainable parameter must make the outputs require grad even if no input does; one is enough.
  TensorList recorded = inputs;
  for (const Parameter* parameter : parameters) {
    if (!parameter->trainable()) continue;
    recorded.push_back(parameter->tensor());
    break;
  }
  if (!RecordsGradient(recorded)) return outputs;

  auto backward = [this, block, parameters, fn, inputs = inputs,
                   num_recorded = recorded.size()](const TensorList& grads) {
    TensorList leaves;
    for (const at::Tensor& input : inputs) {
      leaves.push_back(input.detach().set_requires_grad(input.requires_grad()));
    }
    {
      at::AutoGradMode grad_mode(true);
      RunBackward(inner_.Run(block, parameters, leaves, fn), grads);
    }
    TensorList input_grads(num_recorded);
    for (size_t i = 0; i < leaves.size(); ++i) input_grads[i] = leaves[i].grad();
    return input_grads;
  };
  return RecordMany("Recompute", recorded, std::move(outputs), std::move(backward));
}

}  // namespace lathe
