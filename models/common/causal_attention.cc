#include "lathe/models/common/causal_attention.h"

#include <tuple>
#include <utility>

#include "ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h"
#include "ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h"
#include "lathe/layers/autograd.h"

namespace lathe {

at::Tensor CausalAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  // LibTorch wants heads before positions; these are views.
  const at::Tensor qt = q.detach().transpose(1, 2), kt = k.detach().transpose(1, 2),
                   vt = v.detach().transpose(1, 2);
  auto [out, log_sum] = NoGrad([&] {
    return at::_scaled_dot_product_flash_attention_for_cpu(qt, kt, vt, /*dropout_p=*/0.0,
                                                           /*is_causal=*/true);
  });
  at::Tensor y = NoGrad([&] { return out.transpose(1, 2).contiguous(); });
  if (!RecordsGradient({q, k, v})) return y;
  auto backward = [qt, kt, vt, out = y.detach().transpose(1, 2),
                   log_sum = log_sum](const at::Tensor& dy) -> TensorList {
    auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        dy.transpose(1, 2), qt, kt, vt, out, log_sum, /*dropout_p=*/0.0, /*is_causal=*/true);
    return {dq.transpose(1, 2), dk.transpose(1, 2), dv.transpose(1, 2)};
  };
  return Record("CausalAttention", {q, k, v}, std::move(y), std::move(backward));
}

}  // namespace lathe
