#include "lathe/layers/linear.h"

#include <utility>

#include "ATen/ops/_unsafe_view.h"
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

at::Tensor AddBias(const at::Tensor& y, Parameter& bias) {
  const at::Tensor b = bias.tensor();
  at::Tensor sum = NoGrad([&] { return y.detach().add_(b); });
  if (!RecordsGradient({y, b})) return sum;
  if (bias.trainable()) bias.BeginUse();
  return Record("AddBias", {y, b}, std::move(sum), [&bias](const at::Tensor& dy) -> TensorList {
    SinkBiasGradient(dy.reshape({-1, dy.size(-1)}), &bias);
    return {dy, at::Tensor()};
  });
}

at::Tensor Linear(const at::Tensor& x, Parameter& weight, Parameter* bias) {
  const at::Tensor w = weight.tensor();
  const at::Tensor b = bias != nullptr ? bias->tensor() : at::Tensor();
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = w.size(0);
  const at::Tensor rows = NoGrad([&] { return x.detach().reshape({-1, w.size(1)}); });
  // No view to autograd: an adapter may write into it.
  at::Tensor y = NoGrad([&] {
    return at::_unsafe_view(b.defined() ? at::addmm(b, rows, w.t()) : at::mm(rows, w.t()), shape);
  });
  if (!RecordsGradient({x, w, b})) return y;
  BeginLinearUse(weight, bias);

  // Frozen weights need no saved input.
  auto backward = [rows = weight.trainable() ? rows : at::Tensor(), needs_dx = x.requires_grad(),
                   input_shape = x.sizes().vec(), &weight,
                   bias](const at::Tensor& grad) -> TensorList {
    const at::Tensor dy = grad.reshape({-1, grad.size(-1)});
    at::Tensor dx;
    if (needs_dx) dx = at::mm(dy, weight.tensor()).view(input_shape);
    SinkWeightGradient(rows, dy, weight);
    SinkBiasGradient(dy, bias);
    return {dx, at::Tensor(), at::Tensor()};
  };
  return Record("Linear", {x, w, b}, std::move(y), std::move(backward));
}

}  // namespace lathe
