#include "lathe/zero/sgd.h"

#include <optional>

#include "ATen/ops/_fused_sgd.h"

namespace lathe {

const std::vector<RuleState>& Sgd::states() const {
  static const auto& none = *new std::vector<RuleState>();
  static const auto& momentum = *new std::vector<RuleState>{{.name = "momentum_buffer"}};
  return options_.momentum == 0 ? none : momentum;
}

void Sgd::Update(const std::vector<UpdatePiece>& pieces, const UpdateStep& step) const {
  if (pieces[0].weight.is_meta()) return;  // a rehearsal (lathe/layers/meta_meter.h)
  std::vector<at::Tensor> weights, grads, buffers;
  for (const UpdatePiece& piece : pieces) {
    weights.push_back(piece.weight);
    grads.push_back(piece.grad);
    if (options_.momentum != 0) buffers.push_back(piece.states[0]);
  }
  const std::optional<at::Tensor> divisor = GradientDivisor(pieces, step);
  at::_fused_sgd_(weights, grads, buffers, step.weight_decay, options_.momentum, step.learning_rate,
                  options_.dampening, options_.nesterov, /*maximize=*/false,
                  /*is_first_step=*/step.number == 1, divisor);
}

}  // namespace lathe
