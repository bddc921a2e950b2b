// BlockRunner: models run block i only as `runner.Run(i, parameters, inputs, fn)`, so that
// recomputation (here) and gathering parameters around a block (zero/) are runners, stacked by the
// composition root, and never model code.
//
//   PlainRunner plain;
//   RecomputeRunner recompute(plain);       // --gradient_checkpointing
//   TensorList y = recompute.Run(3, block.parameters(), {x}, [&](const TensorList& in) { return
//   block.Forward(in); });
//
// Thread rule: one rank's forward and backward call a runner from one thread at a time.
#ifndef LATHE_LAYERS_BLOCK_RUNNER_H_
#define LATHE_LAYERS_BLOCK_RUNNER_H_

#include <functional>
#include <limits>
#include <vector>

#include "lathe/layers/autograd.h"
#include "lathe/layers/parameter.h"

namespace lathe {

using BlockFunction = std::function<TensorList(const TensorList& inputs)>;

// The number of what is run like a block and is none, such as the final norm.
constexpr int kNoBlock = std::numeric_limits<int>::max();

class BlockRunner {
 public:
  virtual ~BlockRunner() = default;

  // `block`: global number of the block; `parameters`: all that `fn` uses; `inputs`: activations,
  // whatever else `fn` needs it captures by value (it may run again in backward). Returns
  // fn(inputs), recorded if grad mode is on.
  virtual TensorList Run(int block, const std::vector<Parameter*>& parameters,
                         const TensorList& inputs, const BlockFunction& fn) = 0;

  // The same for what reads no parameter in backward: an embedding's lookup, a head whose gradients
  // are made in its forward.
  virtual TensorList RunForwardOnly(const std::vector<Parameter*>& parameters,
                                    const TensorList& inputs, const BlockFunction& fn) = 0;
};

class PlainRunner : public BlockRunner {
 public:
  TensorList Run(int block, const std::vector<Parameter*>& parameters, const TensorList& inputs,
                 const BlockFunction& fn) override;
  TensorList RunForwardOnly(const std::vector<Parameter*>& parameters, const TensorList& inputs,
                            const BlockFunction& fn) override;
};

// Keeps only the inputs and runs the block again in backward. Bit-equal to PlainRunner, since the
// same code runs on the same inputs and random streams are keyed. A block whose inputs need no
// gradient is run again as long as one of its parameters is trainable (an adapter's, where every
// base weight is frozen).
class RecomputeRunner : public BlockRunner {
 public:
  // Blocks from `num_blocks` on are left to `inner` as they are.
  explicit RecomputeRunner(BlockRunner& inner, int num_blocks = kNoBlock)
      : inner_(inner), num_blocks_(num_blocks) {}
  TensorList Run(int block, const std::vector<Parameter*>& parameters, const TensorList& inputs,
                 const BlockFunction& fn) override;
  TensorList RunForwardOnly(const std::vector<Parameter*>& parameters, const TensorList& inputs,
                            const BlockFunction& fn) override;

 private:
  BlockRunner& inner_;
  const int num_blocks_;
};

}  // namespace lathe

#endif  // LATHE_LAYERS_BLOCK_RUNNER_H_
