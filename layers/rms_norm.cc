#include "lathe/layers/rms_norm.h"

#include "ATen/ops/mul.h"
#include "ATen/ops/rsqrt.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/gradient_sink.h"
#include "lathe/layers/precision.h"

namespace lathe {

at::Tensor RmsNorm(const at::Tensor& x, Parameter& weight, double eps) {
  const at::Tensor w = weight.tensor();
  at::Tensor inverse_rms;
  at::Tensor y = NoGrad([&] {
    const at::Tensor wide = Upcast(x);
    inverse_rms = wide.square().mean(-1, /*keepdim=*/true).add_(eps).rsqrt_();
    return at::mul(w, at::mul(wide, inverse_rms).to(x.scalar_type()));
  });
  if (!RecordsGradient({x, w})) return y;
  if (weight.trainable()) weight.BeginUse();

  auto backward = [x = x.detach(), needs_dx = x.requires_grad(), inverse_rms,
                   &weight](const at::Tensor& dy) -> TensorList {
    const at::Tensor normed = at::mul(Upcast(x), inverse_rms);
    const at::Tensor wide_dy = Upcast(dy);
    if (weight.trainable()) {
      weight.sink()->Accumulate(weight, [normed, dy](at::Tensor& accumulator, bool overwrite) {
        const at::Tensor product = at::mul(Upcast(dy), normed.to(dy.scalar_type()));
        AccumulateValue(accumulator, overwrite, product.reshape({-1, dy.size(-1)}).sum(0));
      });
    }
    if (!needs_dx) return {at::Tensor(), at::Tensor()};
    // d(x·r)/dx with r = rsqrt(mean(x²) + eps): r·(g − n·mean(g·n)), n = x·r, g = dy·weight.
    const at::Tensor g = at::mul(wide_dy, Upcast(weight.tensor()).detach());
    const at::Tensor projection = at::mul(g, normed).mean(-1, /*keepdim=*/true);
    at::Tensor dx = g.sub(at::mul(normed, projection)).mul_(inverse_rms);
    return {dx.to(x.scalar_type()), at::Tensor()};
  };
  return Record("RmsNorm", {x, w}, std::move(y), std::move(backward));
}

}  // namespace lathe
