#include "lathe/peft/lora/lora_linear.h"

#include <cmath>
#include <optional>
#include <utility>

#include "ATen/ops/addmm.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/mm.h"
#include "absl/strings/str_cat.h"
#include "c10/util/Exception.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/linear.h"

namespace lathe {
namespace {

// A matrix that shares `dim` with the layer's weight, the other dim being r: split as the weight
// is along it, or, where the weight is not, whole on every tensor rank.
Parameter MakeMatrix(AdapterPoint& point, const LoraOptions& options, int dim) {
  const Parameter& weight = point.weight();
  std::vector<int64_t> shape = weight.full_shape(), local = weight.tensor().sizes().vec();
  shape[1 - dim] = local[1 - dim] = options.r;
  const bool is_split = (point.split() == AdapterPoint::Split::kOutput) == (dim == 0);
  const ShardSpec& of_weight = weight.shard();
  ShardSpec shard = ShardSpec::Whole(shape, /*replica=*/point.tp_rank());
  if (is_split) {
    const Box& box = of_weight.pieces[0].logical;
    shard = ShardSpec::Slice(shape, dim, box.offset[dim], box.length[dim], of_weight.replica);
  }
  Initializer init = Initializer::Zeros();
  if (dim == 1) {
    init = options.init == LoraInit::kGaussian
               ? Initializer::Normal(1.0 / static_cast<double>(options.r))
               : Initializer::Uniform(1.0 / std::sqrt(static_cast<double>(shape[1])));
  }
  return Parameter(absl::StrCat("base_model.model.", point.module(),
                                dim == 1 ? ".lora_A." : ".lora_B.", "default.weight"),
                   shape, std::move(shard), at::empty(local, weight.tensor().options()), init);
}

}  // namespace

LoraLinear::LoraLinear(AdapterPoint& point, const LoraOptions& options)
    : a_(MakeMatrix(point, options, /*dim=*/1)),
      b_(MakeMatrix(point, options, /*dim=*/0)),
      scaling_(options.scaling),
      dropout_(options.dropout) {
  // Each tensor rank sees its own outputs' gradient, or its own inputs' part of A x.
  if (point.split() == AdapterPoint::Split::kOutput) {
    a_.set_partial_sums({{.axis = "tp"}});
    b_.set_partial_sums(point.weight().partial_sums());
  } else {
    b_.set_partial_sums({{.axis = "tp"}});
  }
}

at::Tensor LoraLinear::InputScale(const std::optional<DropoutKey>& key, const at::Tensor& x) const {
  if (!key) return {};
  TORCH_CHECK(x.dim() == 3, "dropout is by sample and token: x is [batch, seq, in], not ",
              x.sizes());
  const Box& box = a_.shard().pieces[0].logical;
  return DropoutScale(*key, a_.name(), dropout_, x.size(1),
                      {box.offset[1], box.length[1], a_.full_shape()[1]}, x.options());
}

at::Tensor LoraLinear::OnPartial(const at::Tensor& x, const at::Tensor& y) {
  const at::Tensor a = a_.tensor(), b = b_.tensor();
  const auto rows_of = [](const at::Tensor& t) { return t.reshape({-1, t.size(-1)}); };
  // The draw is made again in backward rather than kept.
  std::optional<DropoutKey> key;
  if (dropout_ > 0 && DropoutScope::Current() != nullptr) key = *DropoutScope::Current();
  // [rows, r]: so small that it is scaled here rather than the products with it.
  const at::Tensor low = NoGrad([&] {
    const at::Tensor scale = InputScale(key, x);
    const at::Tensor input = scale.defined() ? x.detach().mul(scale) : x.detach();
    return at::mm(rows_of(input), a.t()).mul_(scaling_);
  });
  at::Tensor sum = NoGrad([&] {
    at::Tensor out = y.detach();
    out.view({-1, b.size(0)}).addmm_(low, b.t());
    return out;
  });
  if (!RecordsGradient({x, y, a, b})) return sum;
  if (a_.trainable()) a_.BeginUse();
  if (b_.trainable()) b_.BeginUse();
  auto backward = [this, key, rows_of, x = a_.trainable() || key ? x.detach() : at::Tensor(),
                   low = b_.trainable() ? low : at::Tensor(), needs_dx = x.requires_grad(),
                   shape = x.sizes().vec()](const at::Tensor& grad) -> TensorList {
    const at::Tensor dy = rows_of(grad);
    SinkWeightGradient(low, dy, b_);
    if (!needs_dx && !a_.trainable()) return {at::Tensor(), grad, at::Tensor(), at::Tensor()};
    const at::Tensor d_low = at::mm(dy, b_.tensor()).mul_(scaling_);
    const at::Tensor scale = InputScale(key, x);
    if (a_.trainable()) {
      SinkWeightGradient(rows_of(scale.defined() ? x.mul(scale) : x), d_low, a_);
    }
    at::Tensor dx;
    if (needs_dx) {
      dx = at::mm(d_low, a_.tensor()).view(shape);
      if (scale.defined()) dx.mul_(scale);
    }
    return {dx, grad, at::Tensor(), at::Tensor()};
  };
  return Record("LoraLinear", {x, y, a, b}, std::move(sum), std::move(backward));
}

}  // namespace lathe
