#include "lathe/zero/update_rule.h"

#include <optional>

#include "ATen/ops/_fused_adamw.h"
#include "ATen/ops/full.h"

namespace lathe {

const std::vector<std::string>& AdamW::state_names() const {
  static const auto& names = *new std::vector<std::string>{"exp_avg", "exp_avg_sq"};
  return names;
}

void AdamW::Update(const std::vector<UpdatePiece>& pieces, const UpdateStep& step) const {
  std::vector<at::Tensor> weights, grads, exp_avgs, exp_avg_sqs, steps;
  for (const UpdatePiece& piece : pieces) {
    weights.push_back(piece.weight);
    grads.push_back(piece.grad);
    exp_avgs.push_back(piece.states[0]);
    exp_avg_sqs.push_back(piece.states[1]);
    steps.push_back(step.step);
  }
  std::optional<at::Tensor> scale;
  if (step.grad_factor != 1 && weights[0].scalar_type() == step.step.scalar_type()) {
    // The kernel divides gradients by grad_scale while it reads them: clipping without a pass of
    // its own.
    scale = at::full({}, 1 / step.grad_factor, step.step.options());
  } else if (step.grad_factor != 1) {
    // grad_scale is fp32, too coarse for fp64 models.
    for (at::Tensor& grad : grads) grad.mul_(step.grad_factor);
  }
  at::_fused_adamw_(weights, grads, exp_avgs, exp_avg_sqs, /*max_exp_avg_sqs=*/{}, steps,
                    step.learning_rate, options_.beta1, options_.beta2, step.weight_decay,
                    options_.epsilon, /*amsgrad=*/false, /*maximize=*/false, scale);
}

}  // namespace lathe
