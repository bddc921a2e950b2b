#include "lathe/models/common/swiglu.h"

#include <utility>

#include "ATen/ops/mul.h"
#include "ATen/ops/sigmoid.h"
#include "ATen/ops/silu.h"
#include "ATen/ops/silu_backward.h"
#include "lathe/layers/autograd.h"

namespace lathe {

at::Tensor SwiGlu(const at::Tensor& gate, const at::Tensor& up) {
  at::Tensor y = NoGrad([&] { return at::silu(gate).mul_(up); });
  if (!RecordsGradient({gate, up})) return y;
  return Record("SwiGlu", {gate, up}, std::move(y),
                [gate = gate.detach(), up = up.detach()](const at::Tensor& dy) -> TensorList {
                  return {at::silu_backward(at::mul(dy, up), gate), at::silu(gate).mul_(dy)};
                });
}

}  // namespace lathe
