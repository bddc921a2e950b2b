// UpdateRule: how an optimizer changes weights, element by element, by their gradients and its own
// states. ZeroOptimizer decides what lies where, and calls it with pieces of flat buffers.
//
//   AdamW rule({.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8});
//   rule.Update({{.weight = w, .grad = g, .states = {exp_avg, exp_avg_sq}}},
//               {.learning_rate = 1e-4, .weight_decay = 0.1, .grad_factor = 1, .step = step});
//
// Thread rule: no state of its own; one rank's optimizer calls it from one thread at a time.
#ifndef LATHE_ZERO_UPDATE_RULE_H_
#define LATHE_ZERO_UPDATE_RULE_H_

#include <string>
#include <vector>

#include "ATen/core/Tensor.h"

namespace lathe {

// Some consecutive elements of one parameter, [n] each.
struct UpdatePiece {
  at::Tensor weight;               // in max(dtype, fp32): changed
  at::Tensor grad;                 // of the same type
  std::vector<at::Tensor> states;  // in the order of state_names(): changed
};

// What holds for all pieces of a call.
struct UpdateStep {
  double learning_rate = 0;
  double weight_decay = 0;
  double grad_factor = 1;  // gradients are multiplied by it first: clipping, the loss scale
  at::Tensor step;         // [1], fp32: updates taken, this one included
};

class UpdateRule {
 public:
  virtual ~UpdateRule() = default;

  // One state of the weight's shape and type for each; they name the states in a checkpoint.
  virtual const std::vector<std::string>& state_names() const = 0;

  // May change the gradients.
  virtual void Update(const std::vector<UpdatePiece>& pieces, const UpdateStep& step) const = 0;
};

struct AdamOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
};

// Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization (2019); torch.optim.AdamW.
class AdamW : public UpdateRule {
 public:
  explicit AdamW(const AdamOptions& options) : options_(options) {}

  const std::vector<std::string>& state_names() const override;
  void Update(const std::vector<UpdatePiece>& pieces, const UpdateStep& step) const override;

 private:
  const AdamOptions options_;
};

}  // namespace lathe

#endif  // LATHE_ZERO_UPDATE_RULE_H_
