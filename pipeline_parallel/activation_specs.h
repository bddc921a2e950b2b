// Shapes and dtypes of the activations between two stages, and how neighbours tell each other.
// Private to the schedules.
#ifndef LATHE_PIPELINE_PARALLEL_ACTIVATION_SPECS_H_
#define LATHE_PIPELINE_PARALLEL_ACTIVATION_SPECS_H_

#include <cstdint>
#include <vector>

#include "ATen/core/Tensor.h"
#include "c10/core/Device.h"
#include "lathe/layers/autograd.h"

namespace lathe {

// But for dim 0, the samples: in these micro batches may differ.
struct ActivationSpec {
  at::ScalarType dtype;
  std::vector<int64_t> sample_shape;

  friend bool operator==(const ActivationSpec&, const ActivationSpec&) = default;
};
using ActivationSpecs = std::vector<ActivationSpec>;

ActivationSpecs SpecsOf(const TensorList& tensors);
at::Tensor EmptyActivation(const ActivationSpec& spec, int64_t num_samples, c10::Device device);

// As a message of one size, so that it can be received before anything is known of it.
at::Tensor EmptySpecsMessage(c10::Device device);
at::Tensor ToMessage(const ActivationSpecs& specs, c10::Device device);
ActivationSpecs FromMessage(const at::Tensor& message);

}  // namespace lathe

#endif  // LATHE_PIPELINE_PARALLEL_ACTIVATION_SPECS_H_
