#include "lathe/models/common/rotary_embedding.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "ATen/ops/arange.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/mul.h"
#include "ATen/ops/outer.h"
#include "ATen/ops/pow.h"
#include "ATen/ops/where.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/precision.h"

namespace lathe {
namespace {

// Frequencies are fp32 in every model, fp64 ones too, because that is what the models were trained
// with.
constexpr at::ScalarType kFrequencyType =
    at::kFloat;  // presubmit: allow tables are defined in fp32

// θ^(2i/d), i = 0 … d/2 − 1.
at::Tensor PositionFrequencies(double theta, int64_t dim) {
  return at::pow(theta,
                 at::arange(0, dim, 2, at::kLong).to(kFrequencyType).div(static_cast<double>(dim)));
}

at::Tensor Reciprocal(const at::Tensor& x) { return x.reciprocal(); }

at::Tensor Llama3Frequencies(const RopeParameters& rope, int64_t dim) {
  const at::Tensor inverse = Reciprocal(PositionFrequencies(rope.theta, dim));
  const double old_context = static_cast<double>(rope.original_max_position_embeddings);
  const double low_wavelength = old_context / rope.low_freq_factor;
  const double high_wavelength = old_context / rope.high_freq_factor;
  const at::Tensor wavelength = Reciprocal(inverse).mul(2 * M_PI);
  const at::Tensor scaled =
      at::where(wavelength.gt(low_wavelength), inverse.div(rope.factor), inverse);
  const at::Tensor smooth = Reciprocal(wavelength)
                                .mul(old_context)
                                .sub(rope.low_freq_factor)
                                .div(rope.high_freq_factor - rope.low_freq_factor);
  const at::Tensor smoothed =
      smooth.neg().add(1).mul(scaled).div(rope.factor).add(smooth.mul(scaled));
  const at::Tensor medium =
      wavelength.ge(high_wavelength).logical_and(wavelength.le(low_wavelength));
  return at::where(medium, smoothed, scaled);
}

// The dim at which a frequency makes `rotations` turns over the original context (YaRN, Peng et al.
// 2023, section 3.2).
double CorrectionDim(double rotations, const RopeParameters& rope, int64_t dim) {
  const double context = static_cast<double>(rope.original_max_position_embeddings);
  return dim * std::log(context / (rotations * 2 * M_PI)) / (2 * std::log(rope.theta));
}

at::Tensor YarnFrequencies(const RopeParameters& rope, int64_t dim) {
  const at::Tensor positions = PositionFrequencies(rope.theta, dim);
  double low = CorrectionDim(rope.beta_fast, rope, dim),
         high = CorrectionDim(rope.beta_slow, rope, dim);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1.0);
  if (low == high) high += 0.001;  // as transformers does, to avoid dividing by zero
  const at::Tensor ramp = at::arange(dim / 2, kFrequencyType).sub(low).div(high - low).clamp(0, 1);
  const at::Tensor keep = ramp.neg().add(1);
  const at::Tensor extrapolated = Reciprocal(positions),
                   interpolated = Reciprocal(positions.mul(rope.factor));
  return interpolated.mul(keep.neg().add(1)).add(extrapolated.mul(keep));
}

double YarnScale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

double AttentionFactor(const RopeParameters& rope) {
  if (rope.type != RopeParameters::Type::kYarn) return 1;
  if (rope.attention_factor) return *rope.attention_factor;
  if (rope.mscale != 0 && rope.mscale_all_dim != 0) {
    return YarnScale(rope.factor, rope.mscale) / YarnScale(rope.factor, rope.mscale_all_dim);
  }
  return YarnScale(rope.factor, 1);
}

at::Tensor InverseFrequencies(const ModelConfig& config, int64_t seq_len) {
  const RopeParameters& rope = config.rope;
  const int64_t dim = config.head_dim;
  switch (rope.type) {
    case RopeParameters::Type::kLinear:
      return Reciprocal(PositionFrequencies(rope.theta, dim)).div(rope.factor);
    case RopeParameters::Type::kDynamic: {
      const double max = static_cast<double>(config.max_position_embeddings);
      const double length = std::max(static_cast<double>(seq_len), max);
      const double theta =
          rope.theta * std::pow(rope.factor * length / max - (rope.factor - 1), dim / (dim - 2.0));
      return Reciprocal(PositionFrequencies(theta, dim));
    }
    case RopeParameters::Type::kLlama3:
      return Llama3Frequencies(rope, dim);
    case RopeParameters::Type::kYarn:
      return YarnFrequencies(rope, dim);
    case RopeParameters::Type::kDefault:
      break;
  }
  return Reciprocal(PositionFrequencies(rope.theta, dim));
}

// Rotation by the table's angles, or back by them (the transpose, hence the gradient).
at::Tensor Rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool back) {
  const at::Tensor wide = Upcast(x);
  const int64_t half = x.size(-1) / 2;
  const at::Tensor first = wide.narrow(-1, 0, half), second = wide.narrow(-1, half, half);
  const at::Tensor c = cos.to(wide.scalar_type()).unsqueeze(1);  // [seq, 1, half]
  at::Tensor s = sin.to(wide.scalar_type()).unsqueeze(1);
  if (back) s = s.neg();
  return at::cat({at::mul(first, c).sub_(at::mul(second, s)),
                  at::mul(second, c).add_(at::mul(first, s))},
                 -1)
      .to(x.scalar_type());
}

}  // namespace

RotaryTable MakeRotaryTable(const ModelConfig& config, int64_t seq_len) {
  at::NoGradGuard no_grad;
  const at::Tensor angles =
      at::outer(at::arange(seq_len, kFrequencyType), InverseFrequencies(config, seq_len));
  const double factor = AttentionFactor(config.rope);
  return {angles.cos().mul(factor), angles.sin().mul(factor)};
}

at::Tensor ApplyRotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  at::Tensor y = NoGrad([&] { return Rotate(x, cos, sin, /*back=*/false); });
  if (!RecordsGradient({x})) return y;
  return Record("Rotary", {x}, std::move(y), [cos, sin](const at::Tensor& dy) -> TensorList {
    return {Rotate(dy, cos, sin, /*back=*/true)};
  });
}

}  // namespace lathe
