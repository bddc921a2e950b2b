#include "lathe/zero/muon.h"

#include <algorithm>
#include <cmath>

#include "ATen/ops/addmm.h"
#include "c10/util/Exception.h"

namespace lathe {
namespace {

// A quintic with the steepest slope at 0 that takes [0, 1] to about [0.7, 1.2] in five steps.
constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
constexpr double kEpsilon = 1e-7;  // below which a norm divides no more

// About U V' of the matrix's U S V'.
at::Tensor Orthogonalized(const at::Tensor& matrix, int num_steps) {
  const bool is_tall = matrix.size(0) > matrix.size(1);
  at::Tensor x = matrix.scalar_type() == at::kDouble ? matrix.clone() : matrix.to(at::kBFloat16);
  if (is_tall) x = x.t();
  x.div_(x.norm().clamp(kEpsilon));
  for (int i = 0; i < num_steps; ++i) {
    const at::Tensor gram = x.matmul(x.t());
    const at::Tensor update = at::addmm(gram, gram, gram, kB, kC);
    x = at::addmm(x, update, x, kA);
  }
  return is_tall ? x.t() : x;
}

}  // namespace

const std::vector<RuleState>& Muon::states() const {
  static const auto& states = *new std::vector<RuleState>{{.name = "momentum_buffer"}};
  return states;
}

void Muon::Update(const std::vector<UpdatePiece>& pieces, const UpdateStep& step) const {
  for (const UpdatePiece& piece : pieces) UpdateMatrix(piece, step);
}

void Muon::UpdateMatrix(const UpdatePiece& piece, const UpdateStep& step) const {
  TORCH_CHECK(piece.shape.size() == 2, "Muon steps matrices");
  const at::Tensor weight = piece.weight.view(piece.shape);
  const at::Tensor grad = piece.grad.view(piece.shape);
  const at::Tensor momentum = piece.states[0].view(piece.shape);
  if (step.grad_factor != 1) grad.mul_(step.grad_factor);
  momentum.lerp_(grad, 1 - options_.momentum);
  const at::Tensor direction =
      Orthogonalized(options_.nesterov ? grad.lerp(momentum, options_.momentum) : momentum,
                     options_.newton_schulz_steps);
  const auto rows = static_cast<double>(piece.shape[0]);
  const auto columns = static_cast<double>(piece.shape[1]);
  const double factor = options_.rate == MuonOptions::Rate::kOriginal
                            ? std::sqrt(std::max(1.0, rows / columns))
                            : 0.2 * std::sqrt(std::max(rows, columns));
  weight.mul_(1 - step.learning_rate * step.weight_decay);
  weight.sub_(direction, step.learning_rate * factor);
}

}  // namespace lathe
