#include "lathe/layers/linear.h"

#include "ATen/ops/addmm.h"
#include "ATen/ops/mm.h"
#include "ATen/ops/sum.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/gradient_sink.h"
#include "lathe/layers/precision.h"

namespace lathe {

void BeginLinearUse(Parameter& weight, Parameter* bias) {
  if (weight.trainable()) weight.BeginUse();
  if (bias != nullptr && bias->trainable()) bias->BeginUse();
}

void SinkWeightGradient(const at::Tensor& x, const at::Tensor& dy, Parameter& weight) {
  if (!weight.trainable()) return;
  weight.sink()->Accumulate(weight, [x, dy](at::Tensor& accumulator, bool overwrite) {
    AccumulateOuterProduct(accumulator, overwrite, dy, x);
  });
}

void SinkBiasGradient(const at::Tensor& dy, Parameter* bias) {
  if (bias == nullptr || !bias->trainable()) return;
  bias->sink()->Accumulate(*bias, [dy](at::Tensor& accumulator, bool overwrite) {
    AccumulateValue(accumulator, overwrite, dy.sum(0, false, UpcastType(dy.scalar_type())));
  });
}

at::Tensor Linear(const at::Tensor& x, Parameter& weight, Parameter* bias) {
  const at::Tensor w = weight.tensor();
  const at::Tensor b = bias != nullptr ? bias->tensor() : at::Tensor();
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = w.size(0);
  const at::Tensor rows = NoGrad([&] { return x.detach().reshape({-1, w.size(1)}); });
  at::Tensor y = NoGrad(
      [&] { return (b.defined() ? at::addmm(b, rows, w.t()) : at::mm(rows, w.t())).view(shape); });
  if (!RecordsGradient({x, w, b})) return y;
  BeginLinearUse(weight, bias);

  auto backward = [rows, needs_dx = x.requires_grad(), input_shape = x.sizes().vec(), &weight,
                   bias](const at::Tensor& grad) -> TensorList {
    const at::Tensor dy = grad.reshape({-1, grad.size(-1)});
    at::Tensor dx;
    if (needs_dx) dx = at::mm(dy, weight.tensor()).view(input_shape);
    // Frozen weights need no saved input; `rows` is then only a view of what the graph holds
    // anyway.
    SinkWeightGradient(rows, dy, weight);
    SinkBiasGradient(dy, bias);
    return {dx, at::Tensor(), at::Tensor()};
  };
  return Record("Linear", {x, w, b}, std::move(y), std::move(backward));
}

}  // namespace lathe
