#include "lathe/zero/adafactor.h"

#include <cmath>

namespace lathe {
namespace {

double Beta2(const AdafactorOptions& options, const UpdateStep& step) {
  return 1 - std::pow(static_cast<double>(step.number), options.decay_rate);
}

// Clips the update, and takes it.
void Take(const at::Tensor& weight, const at::Tensor& update, const AdafactorOptions& options,
          const UpdateStep& step) {
  const at::Tensor rms = update.norm().div_(std::sqrt(static_cast<double>(update.numel())));
  update.div_(rms.div_(options.clip_threshold).clamp_min_(1.0));
  if (step.weight_decay != 0) weight.mul_(1 - step.weight_decay * step.learning_rate);
  weight.sub_(update, step.learning_rate);
}

}  // namespace

const std::vector<RuleState>& AdafactorMatrix::states() const {
  static const auto& states =
      *new std::vector<RuleState>{{.name = "exp_avg_sq_row", .extent = RuleState::Extent::kRow},
                                  {.name = "exp_avg_sq_col", .extent = RuleState::Extent::kColumn}};
  return states;
}

void AdafactorMatrix::Update(const std::vector<UpdatePiece>& pieces, const UpdateStep& step) const {
  const double beta2 = Beta2(options_, step);
  for (const UpdatePiece& piece : pieces) {
    // [..., rows, columns]; the states are [..., rows] and [..., columns].
    const at::Tensor grad = piece.grad.view(piece.shape);
    if (step.grad_factor != 1) grad.mul_(step.grad_factor);
    const std::vector<int64_t>& shape = piece.shape;
    std::vector<int64_t> row_shape(shape.begin(), shape.end() - 1), column_shape = shape;
    column_shape.erase(column_shape.end() - 2);
    const at::Tensor row = piece.states[0].view(row_shape);
    const at::Tensor column = piece.states[1].view(column_shape);
    const at::Tensor squares = grad.square().add_(options_.epsilon);
    row.mul_(beta2).add_(squares.mean(-1), 1 - beta2);
    column.mul_(beta2).add_(squares.mean(-2), 1 - beta2);
    const at::Tensor update = row.div(row.mean(-1, /*keepdim=*/true))
                                  .rsqrt_()
                                  .unsqueeze(-1)
                                  .mul(column.unsqueeze(-2).rsqrt())
                                  .mul_(grad);
    Take(piece.weight.view(shape), update, options_, step);
  }
}

const std::vector<RuleState>& AdafactorVector::states() const {
  static const auto& states = *new std::vector<RuleState>{{.name = "exp_avg_sq"}};
  return states;
}

void AdafactorVector::Update(const std::vector<UpdatePiece>& pieces, const UpdateStep& step) const {
  const double beta2 = Beta2(options_, step);
  for (const UpdatePiece& piece : pieces) {
    const at::Tensor& grad = piece.grad;
    if (step.grad_factor != 1) grad.mul_(step.grad_factor);
    const at::Tensor& average = piece.states[0];
    average.mul_(beta2).add_(grad.square().add_(options_.epsilon), 1 - beta2);
    Take(piece.weight, average.rsqrt().mul_(grad), options_, step);
  }
}

}  // namespace lathe
