// UpdateRule: how an optimizer changes weights by their gradients and its own states. ZeroOptimizer
// decides what lies where, and calls it with pieces of flat buffers.
//
//   AdamW rule({.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8});  // adam.h
//   rule.Update({{.weight = w, .grad = g, .states = {exp_avg, exp_avg_sq}}},
//               {.learning_rate = 1e-4, .weight_decay = 0.1, .step = step, .number = 1});
//
// Thread rule: no state of its own; one rank's optimizer calls it from one thread at a time.
#ifndef LATHE_ZERO_UPDATE_RULE_H_
#define LATHE_ZERO_UPDATE_RULE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"

namespace lathe {

// Elements of the blocks that share one value of a state, and of which pieces are made then.
inline constexpr int64_t kStateBlock = 256;

// Some consecutive elements of one parameter, [n] each.
struct UpdatePiece {
  at::Tensor weight;               // in max(dtype, fp32): changed
  at::Tensor grad;                 // of the same type
  std::vector<at::Tensor> states;  // in the order of states(): changed
  int64_t offset = 0;              // of its first element in the parameter
  std::vector<int64_t> shape;      // of the parameter
};

// What holds for all pieces of a call.
struct UpdateStep {
  double learning_rate = 0;
  double weight_decay = 0;
  double grad_factor = 1;  // gradients are multiplied by it first: clipping, the loss scale
  at::Tensor step;         // [1], fp32: updates taken, this one included
  int64_t number = 0;      // the same
};

// A state that a rule keeps of each parameter. All start at zero.
struct RuleState {
  enum class Extent {
    kElement,  // a value for each element of the parameter
    kBlock,    // for each kStateBlock consecutive ones
    kRow,      // for all indices but the last dim's
    kColumn,   // for all indices but the last dim's but one
  };

  std::string name;  // PARAMETER.name in a checkpoint
  Extent extent = Extent::kElement;
  std::optional<at::ScalarType> dtype = std::nullopt;  // the weight's, as the rule sees it
};

class UpdateRule {
 public:
  // Where a parameter may be cut into pieces.
  enum class Cuts {
    kAnywhere,  // at multiples of 32 elements: all states are by element
    kBlocks,    // at multiples of kStateBlock
    kNowhere,   // a piece is a whole parameter
  };

  virtual ~UpdateRule() = default;

  virtual const std::vector<RuleState>& states() const = 0;
  virtual Cuts cuts() const { return Cuts::kAnywhere; }

  // May change the gradients. At most one call per parameter and update has any of its elements.
  virtual void Update(const std::vector<UpdatePiece>& pieces, const UpdateStep& step) const = 0;
};

// Bytes of a rule's states for each element of a parameter in `dtype`, rows and columns aside.
double StateBytesPerElement(const UpdateRule& rule, at::ScalarType dtype);

// For rules by kernels that divide gradients by a scalar while they read them: that scalar, if it
// is needed. Where it would be too coarse for the gradients, they are multiplied here instead.
std::optional<at::Tensor> GradientDivisor(const std::vector<UpdatePiece>& pieces,
                                          const UpdateStep& step);

// For rules that need memory beside a piece: calls fn(part) for its parts, one after the other,
// each of so few elements that such memory is small, and starting at a multiple of kStateBlock.
// Their gradients are multiplied by step.grad_factor. States are the piece's parts where they are
// by element or by block.
void ForEachPart(const UpdatePiece& piece, const UpdateStep& step,
                 const std::vector<RuleState>& states,
                 const std::function<void(UpdatePiece& part)>& fn);

}  // namespace lathe

#endif  // LATHE_ZERO_UPDATE_RULE_H_
