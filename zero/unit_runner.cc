#include "lathe/zero/unit_runner.h"

#include <functional>
#include <utility>

#include "ATen/core/grad_mode.h"
#include "lathe/layers/autograd.h"

namespace lathe {
namespace {

// The same tensors behind a node that calls `action` when backward passes through it.
TensorList OnBackward(const char* name, const TensorList& tensors, std::function<void()> action) {
  if (!RecordsGradient(tensors)) return tensors;
  TensorList recorded, aliases;
  for (const at::Tensor& tensor : tensors) {
    if (!tensor.defined() || !tensor.requires_grad()) continue;
    recorded.push_back(tensor);
    aliases.push_back(tensor.variable_data());
  }
  aliases = RecordMany(name, recorded, std::move(aliases),
                       [action = std::move(action)](const TensorList& grads) {
                         action();
                         return grads;
                       });
  TensorList result = tensors;
  size_t next = 0;
  for (at::Tensor& tensor : result) {
    if (tensor.defined() && tensor.requires_grad()) tensor = aliases[next++];
  }
  return result;
}

}  // namespace

std::vector<int> UnitRunner::Acquire(const std::vector<Parameter*>& parameters) {
  const ZeroUnits::Pass pass =
      at::GradMode::is_enabled() ? ZeroUnits::Pass::kForward : ZeroUnits::Pass::kEvaluation;
  std::vector<int> units = units_.Of(parameters);
  for (const int unit : units) units_.Acquire(unit, pass);
  return units;
}

void UnitRunner::Release(const std::vector<int>& units) {
  for (const int unit : units) units_.Release(unit);
}

TensorList UnitRunner::Run(int block, const std::vector<Parameter*>& parameters,
                           const TensorList& inputs, const BlockFunction& fn) {
  const std::vector<int> units = Acquire(parameters);
  if (units.empty()) return inner_.Run(block, parameters, inputs, fn);
  // Where no gradient flows on, nothing passes the inputs: the end of backward lets go instead.
  const bool passes_inputs = RecordsGradient(inputs);
  const TensorList entered = OnBackward("ReleaseUnit", inputs, [this, units] { Release(units); });
  const TensorList outputs = inner_.Run(block, parameters, entered, fn);
  Release(units);
  return OnBackward("GatherUnit", outputs, [this, units, passes_inputs] {
    for (const int unit : units) units_.Acquire(unit, ZeroUnits::Pass::kBackward);
    if (!passes_inputs) AfterBackward([this, units] { Release(units); });
  });
}

TensorList UnitRunner::RunForwardOnly(const std::vector<Parameter*>& parameters,
                                      const TensorList& inputs, const BlockFunction& fn) {
  const std::vector<int> units = Acquire(parameters);
  TensorList outputs = inner_.RunForwardOnly(parameters, inputs, fn);
  Release(units);
  return outputs;
}

}  // namespace lathe
