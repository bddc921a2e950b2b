#include "lathe/zero/update_rule.h"

#include <algorithm>

#include "ATen/ops/full.h"
#include "c10/core/ScalarType.h"

namespace lathe {
namespace {

// Of a part: what a core's cache holds several of, and on a GPU enough to fill it.
int64_t PartElements(const at::Tensor& weight) { return weight.is_cpu() ? 1 << 17 : 1 << 24; }

}  // namespace

double StateBytesPerElement(const UpdateRule& rule, at::ScalarType dtype) {
  double bytes = 0;
  for (const RuleState& state : rule.states()) {
    const auto value = static_cast<double>(c10::elementSize(state.dtype.value_or(dtype)));
    if (state.extent == RuleState::Extent::kElement) bytes += value;
    if (state.extent == RuleState::Extent::kBlock) bytes += value / kStateBlock;
  }
  return bytes;
}

std::optional<at::Tensor> GradientDivisor(const std::vector<UpdatePiece>& pieces,
                                          const UpdateStep& step) {
  if (step.grad_factor == 1) return std::nullopt;
  if (pieces[0].weight.scalar_type() == step.step.scalar_type()) {
    return at::full({}, 1 / step.grad_factor, step.step.options());
  }
  // The kernels take it in fp32, too coarse for fp64 models.
  for (const UpdatePiece& piece : pieces) piece.grad.mul_(step.grad_factor);
  return std::nullopt;
}

void ForEachPart(const UpdatePiece& piece, const UpdateStep& step,
                 const std::vector<RuleState>& states,
                 const std::function<void(UpdatePiece& part)>& fn) {
  const int64_t size = piece.weight.numel(), most = PartElements(piece.weight);
  for (int64_t begin = 0; begin < size; begin += most) {
    const int64_t length = std::min(most, size - begin);
    UpdatePiece part{.weight = piece.weight.narrow(0, begin, length),
                     .grad = piece.grad.narrow(0, begin, length),
                     .offset = piece.offset + begin,
                     .shape = piece.shape};
    for (size_t i = 0; i < states.size(); ++i) {
      const bool by_block = states[i].extent == RuleState::Extent::kBlock;
      part.states.push_back(by_block
                                ? piece.states[i].narrow(0, begin / kStateBlock,
                                                         (length + kStateBlock - 1) / kStateBlock)
                                : piece.states[i].narrow(0, begin, length));
    }
    if (step.grad_factor != 1) part.grad.mul_(step.grad_factor);
    fn(part);
  }
}

}  // namespace lathe
