#include "lathe/models/common/causal_attention.h"

#include <optional>
#include <tuple>
#include <utility>

#include "ATen/ops/_fused_sdp_choice.h"
#include "ATen/ops/_scaled_dot_product_efficient_attention.h"
#include "ATen/ops/_scaled_dot_product_efficient_attention_backward.h"
#include "ATen/ops/_scaled_dot_product_flash_attention.h"
#include "ATen/ops/_scaled_dot_product_flash_attention_backward.h"
#include "ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h"
#include "ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h"
#include "ATen/ops/empty.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/precision.h"

namespace lathe {
namespace {

// Whether LibTorch's flash attention is for these: half types, of GPUs that are new enough.
bool FlashServes(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  constexpr int64_t kFlash = 1;  // sdp::SDPBackend
  // The widest head of which the backward runs on all such GPUs.
  return q.size(3) <= 128 && q.size(3) % 8 == 0 &&
         at::_fused_sdp_choice(q.detach().transpose(1, 2), k.detach().transpose(1, 2),
                               v.detach().transpose(1, 2), /*attn_mask=*/{}, /*dropout_p=*/0.0,
                               /*is_causal=*/true, /*scale=*/std::nullopt,
                               /*enable_gqa=*/true) == kFlash;
}

at::Tensor FlashOnGpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const at::Tensor qt = q.detach().transpose(1, 2), kt = k.detach().transpose(1, 2),
                   vt = v.detach().transpose(1, 2);
  auto kept = NoGrad([&] {
    return at::_scaled_dot_product_flash_attention(qt, kt, vt, /*dropout_p=*/0.0,
                                                   /*is_causal=*/true,
                                                   /*return_debug_mask=*/false);
  });
  at::Tensor y = NoGrad([&] { return std::get<0>(kept).transpose(1, 2).contiguous(); });
  if (!RecordsGradient({q, k, v})) return y;
  auto backward = [qt, kt, vt, out = y.detach().transpose(1, 2), log_sum = std::get<1>(kept),
                   ends_q = std::get<2>(kept), ends_k = std::get<3>(kept), seed = std::get<6>(kept),
                   offset = std::get<7>(kept)](const at::Tensor& dy) -> TensorList {
    auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_backward(
        dy.transpose(1, 2), qt, kt, vt, out, log_sum, ends_q, ends_k, /*max_q=*/qt.size(2),
        /*max_k=*/kt.size(2), /*dropout_p=*/0.0, /*is_causal=*/true, seed, offset);
    return {dq.transpose(1, 2), dk.transpose(1, 2), dv.transpose(1, 2)};
  };
  return Record("CausalAttention", {q, k, v}, std::move(y), std::move(backward));
}

// LibTorch's kernel for GPUs that takes fp32 as well as half precision. It wants as many heads of
// keys and values as of queries.
at::Tensor EfficientOnGpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const int64_t kv_heads = k.size(2), group = q.size(2) / kv_heads;
  auto spread = [&](const at::Tensor& t) {
    return t.detach().transpose(1, 2).repeat_interleave(group, /*dim=*/1);
  };
  auto fold = [=](const at::Tensor& gradient) {
    return gradient.unflatten(1, {kv_heads, group}).sum(2).transpose(1, 2);
  };
  const bool records = RecordsGradient({q, k, v});
  const at::Tensor qt = q.detach().transpose(1, 2);
  const at::Tensor kt = NoGrad([&] { return spread(k); }), vt = NoGrad([&] { return spread(v); });
  auto [out, log_sum, seed, offset] = NoGrad([&] {
    return at::_scaled_dot_product_efficient_attention(qt, kt, vt, /*attn_bias=*/{},
                                                       /*compute_log_sumexp=*/records,
                                                       /*dropout_p=*/0.0, /*is_causal=*/true);
  });
  at::Tensor y = NoGrad([&] { return out.transpose(1, 2).contiguous(); });
  if (!records) return y;
  auto backward = [=, out = y.detach().transpose(1, 2), log_sum = log_sum, seed = seed,
                   offset = offset](const at::Tensor& dy) -> TensorList {
    auto [dq, dk, dv, unused] = at::_scaled_dot_product_efficient_attention_backward(
        dy.transpose(1, 2), qt, kt, vt, /*attn_bias=*/{}, out, log_sum, seed, offset,
        /*dropout_p=*/0.0, /*grad_input_mask=*/{true, true, true, false}, /*is_causal=*/true);
    return {dq.transpose(1, 2), fold(dk), fold(dv)};
  };
  return Record("CausalAttention", {q, k, v}, std::move(y), std::move(backward));
}

// Outputs of LibTorch's kernel for CPUs, of which a rehearsal (lathe/layers/meta_meter.h) makes the
// shapes: [batch, heads, seq, dim], laid out with positions before heads, and [batch, heads, seq].
at::Tensor PositionsFirst(const at::Tensor& like) {
  const at::IntArrayRef s = like.sizes();
  return at::empty({s[0], s[2], s[1], s[3]}, like.options()).transpose(1, 2);
}

std::tuple<at::Tensor, at::Tensor> ForwardOnCpu(const at::Tensor& q, const at::Tensor& k,
                                                const at::Tensor& v) {
  if (q.is_meta()) {
    return {PositionsFirst(q), at::empty({q.size(0), q.size(1), q.size(2)},
                                         q.options().dtype(UpcastType(q.scalar_type())))};
  }
  return at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, /*dropout_p=*/0.0,
                                                         /*is_causal=*/true);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> BackwardOnCpu(
    const at::Tensor& dy, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    const at::Tensor& out, const at::Tensor& log_sum) {
  if (q.is_meta()) return {PositionsFirst(q), PositionsFirst(k), PositionsFirst(v)};
  return at::_scaled_dot_product_flash_attention_for_cpu_backward(
      dy, q, k, v, out, log_sum, /*dropout_p=*/0.0, /*is_causal=*/true);
}

}  // namespace

at::Tensor CausalAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  if (q.is_cuda()) return FlashServes(q, k, v) ? FlashOnGpu(q, k, v) : EfficientOnGpu(q, k, v);
  // LibTorch wants heads before positions; these are views.
  const at::Tensor qt = q.detach().transpose(1, 2), kt = k.detach().transpose(1, 2),
                   vt = v.detach().transpose(1, 2);
  auto [out, log_sum] = NoGrad([&] { return ForwardOnCpu(qt, kt, vt); });
  at::Tensor y = NoGrad([&] { return out.transpose(1, 2).contiguous(); });
  if (!RecordsGradient({q, k, v})) return y;
  auto backward = [qt, kt, vt, out = y.detach().transpose(1, 2),
                   log_sum = log_sum](const at::Tensor& dy) -> TensorList {
    auto [dq, dk, dv] = BackwardOnCpu(dy.transpose(1, 2), qt, kt, vt, out, log_sum);
    return {dq.transpose(1, 2), dk.transpose(1, 2), dv.transpose(1, 2)};
  };
  return Record("CausalAttention", {q, k, v}, std::move(y), std::move(backward));
}

}  // namespace lathe
