#include "lathe/zero/lion.h"

namespace lathe {

const std::vector<RuleState>& Lion::states() const {
  static const auto& states = *new std::vector<RuleState>{{.name = "exp_avg"}};
  return states;
}

void Lion::Update(const std::vector<UpdatePiece>& pieces, const UpdateStep& step) const {
  for (const UpdatePiece& piece : pieces) {
    ForEachPart(piece, step, states(), [&](UpdatePiece& part) {
      const at::Tensor& momentum = part.states[0];
      const at::Tensor direction =
          momentum.mul(options_.beta1).add_(part.grad, 1 - options_.beta1).sign_();
      if (step.weight_decay != 0) part.weight.mul_(1 - step.learning_rate * step.weight_decay);
      part.weight.sub_(direction, step.learning_rate);
      momentum.mul_(options_.beta2).add_(part.grad, 1 - options_.beta2);
    });
  }
}

}  // namespace lathe
