#include "lathe/pipeline_parallel/activation_specs.h"

#include "ATen/ops/empty.h"
#include "ATen/ops/zeros.h"
#include "c10/util/Exception.h"

namespace lathe {
namespace {

constexpr int64_t kMessageSize = 128;  // of int64: some twenty tensors

}  // namespace

ActivationSpecs SpecsOf(const TensorList& tensors) {
  ActivationSpecs specs;
  for (const at::Tensor& tensor : tensors) {
    TORCH_CHECK(tensor.dim() > 0, "an activation without a dim of samples");
    specs.push_back({tensor.scalar_type(), tensor.sizes().slice(1).vec()});
  }
  return specs;
}

at::Tensor EmptyActivation(const ActivationSpec& spec, int64_t num_samples, c10::Device device) {
  std::vector<int64_t> shape = {num_samples};
  shape.insert(shape.end(), spec.sample_shape.begin(), spec.sample_shape.end());
  return at::empty(shape, at::TensorOptions(device).dtype(spec.dtype));
}

at::Tensor EmptySpecsMessage(c10::Device device) {
  return at::empty({kMessageSize}, at::TensorOptions(device).dtype(at::kLong));
}

at::Tensor ToMessage(const ActivationSpecs& specs, c10::Device device) {
  at::Tensor message = at::zeros({kMessageSize}, at::kLong);
  int64_t* const values = message.data_ptr<int64_t>();
  int64_t at = 0;
  const auto append = [&](int64_t value) {
    TORCH_CHECK(at < kMessageSize, "too many activations between two stages: ", specs.size());
    values[at++] = value;
  };
  append(static_cast<int64_t>(specs.size()));
  for (const ActivationSpec& spec : specs) {
    append(static_cast<int64_t>(spec.dtype));
    append(static_cast<int64_t>(spec.sample_shape.size()));
    for (const int64_t size : spec.sample_shape) append(size);
  }
  return message.to(device);
}

ActivationSpecs FromMessage(const at::Tensor& message) {
  const at::Tensor on_cpu = message.cpu();
  const int64_t* value = on_cpu.const_data_ptr<int64_t>();
  ActivationSpecs specs(*value++);
  for (ActivationSpec& spec : specs) {
    spec.dtype = static_cast<at::ScalarType>(*value++);
    spec.sample_shape.resize(*value++);
    for (int64_t& size : spec.sample_shape) size = *value++;
  }
  return specs;
}

}  // namespace lathe
