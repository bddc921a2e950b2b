#include "lathe/zero/bf16_states.h"

#include <utility>

#include "ATen/ops/arange.h"

namespace lathe {
namespace {

// The low halves that rounding cuts off, for elements from `offset` on: uniform in [0, 2^16), by
// a finaliser of splitmix64 over element and key. On any device, unlike KeyedStream.
at::Tensor Dither(int64_t offset, int64_t key, const at::Tensor& like) {
  at::Tensor x = at::arange(offset, offset + like.numel(), like.options().dtype(at::kLong));
  // 64-bit products wrap around, here and in tensors.
  const auto times = [](int64_t a, uint64_t b) {
    return static_cast<int64_t>(static_cast<uint64_t>(a) * b);
  };
  x.add_(times(key, 0x9E3779B97F4A7C15u));
  x.bitwise_xor_(x.bitwise_right_shift(30)).mul_(static_cast<int64_t>(0xBF58476D1CE4E5B9u));
  x.bitwise_xor_(x.bitwise_right_shift(27)).mul_(static_cast<int64_t>(0x94D049BB133111EBu));
  return x.bitwise_right_shift_(31).bitwise_and_(0xFFFF).to(at::kInt);
}

// presubmit: allow bfloat16 is the upper half of fp32
at::Tensor ToFp32(const at::Tensor& x) { return x.to(at::kFloat, false, /*copy=*/true); }

void RoundRandomly(const at::Tensor& values, const at::Tensor& dither, const at::Tensor& rounded) {
  const at::Tensor fp32 = ToFp32(values);
  // A carry out of the low half is a step to the next bfloat16; what is exact stays.
  fp32.view(at::kInt).add_(dither).bitwise_and_(~0xFFFF);
  rounded.copy_(fp32);
}

}  // namespace

Bf16States::Bf16States(std::shared_ptr<const UpdateRule> rule) : rule_(std::move(rule)) {
  for (const RuleState& state : rule_->states()) {
    states_.push_back({.name = state.name, .dtype = at::kBFloat16});
  }
}

void Bf16States::Update(const std::vector<UpdatePiece>& pieces, const UpdateStep& step) const {
  UpdateStep inner = step;
  inner.grad_factor = 1;
  const auto num_states = static_cast<int64_t>(states_.size());
  for (const UpdatePiece& piece : pieces) {
    ForEachPart(piece, step, states_, [&](UpdatePiece& part) {
      const std::vector<at::Tensor> kept = part.states;
      for (at::Tensor& state : part.states) state = state.to(part.weight.scalar_type());
      rule_->Update({part}, inner);
      for (int64_t i = 0; i < num_states; ++i) {
        const int64_t key = step.number * num_states + i;
        RoundRandomly(part.states[i], Dither(part.offset, key, kept[i]), kept[i]);
      }
    });
  }
}

}  // namespace lathe
