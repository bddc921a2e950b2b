#include "lathe/zero/adam.h"

#include <optional>

#include "ATen/ops/_fused_adam.h"
#include "ATen/ops/_fused_adamw.h"

namespace lathe {
namespace {

const std::vector<RuleState>& Moments() {
  static const auto& states =
      *new std::vector<RuleState>{{.name = "exp_avg"}, {.name = "exp_avg_sq"}};
  return states;
}

// The pieces as the fused kernels want them.
struct TensorLists {
  std::vector<at::Tensor> weights, grads, exp_avgs, exp_avg_sqs, steps;

  TensorLists(const std::vector<UpdatePiece>& pieces, const at::Tensor& step) {
    for (const UpdatePiece& piece : pieces) {
      weights.push_back(piece.weight);
      grads.push_back(piece.grad);
      exp_avgs.push_back(piece.states[0]);
      exp_avg_sqs.push_back(piece.states[1]);
      steps.push_back(step);
    }
  }
};

}  // namespace

const std::vector<RuleState>& AdamW::states() const { return Moments(); }

void AdamW::Update(const std::vector<UpdatePiece>& pieces, const UpdateStep& step) const {
  if (pieces[0].weight.is_meta()) return;  // a rehearsal (lathe/layers/meta_meter.h)
  TensorLists lists(pieces, step.step);
  const std::optional<at::Tensor> divisor = GradientDivisor(pieces, step);
  at::_fused_adamw_(lists.weights, lists.grads, lists.exp_avgs, lists.exp_avg_sqs,
                    /*max_exp_avg_sqs=*/{}, lists.steps, step.learning_rate, options_.beta1,
                    options_.beta2, step.weight_decay, options_.epsilon, /*amsgrad=*/false,
                    /*maximize=*/false, divisor);
}

const std::vector<RuleState>& Adam::states() const { return Moments(); }

void Adam::Update(const std::vector<UpdatePiece>& pieces, const UpdateStep& step) const {
  if (pieces[0].weight.is_meta()) return;  // a rehearsal (lathe/layers/meta_meter.h)
  TensorLists lists(pieces, step.step);
  const std::optional<at::Tensor> divisor = GradientDivisor(pieces, step);
  at::_fused_adam_(lists.weights, lists.grads, lists.exp_avgs, lists.exp_avg_sqs,
                   /*max_exp_avg_sqs=*/{}, lists.steps, step.learning_rate, options_.beta1,
                   options_.beta2, step.weight_decay, options_.epsilon, /*amsgrad=*/false,
                   /*maximize=*/false, divisor);
}

}  // namespace lathe
