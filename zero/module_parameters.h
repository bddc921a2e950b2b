// ModuleParameters: the parameters of any LibTorch module, unchanged, for a ZeroOptimizer.
//
//   torch::nn::Sequential module(...);
//   std::vector<std::pair<std::string, at::Tensor>> named;
//   for (const auto& item : module->named_parameters()) {
//     named.emplace_back(item.key(), item.value());
//   }
//   ModuleParameters parameters(named);
//   ZeroOptimizer optimizer(parameters.all(), {.stage = 2}, context);
//   optimizer.BeginUpdate();
//   optimizer.BeginMicroBatch(0, /*last=*/true);
//   RunBackward({module->forward(x).mse_loss(y)}, {{}});
//   optimizer.Step(1e-3);   // .grad stays empty: see all()[i]->main_grad
//
// The module's tensors become views of the optimizer's flat buffers. A gradient that autograd has
// made of one is taken from it at once, so nothing is kept twice. For stage 3 give each part of the
// module that runs as a whole its own unit (Parameter::set_unit, before the optimizer is made) and
// run it by UnitRunner; the module's values are kept. With recomputation in the module itself a
// parameter's gradient comes in parts: use RecomputeRunner instead.
//
// Thread rule: as GradientSink. The object, and the module, must outlive the optimizer.
//
// Source: torch.Tensor.register_post_accumulate_grad_hook.
#ifndef LATHE_ZERO_MODULE_PARAMETERS_H_
#define LATHE_ZERO_MODULE_PARAMETERS_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ATen/core/Tensor.h"
#include "lathe/layers/parameter.h"

namespace lathe {

class ModuleParameters {
 public:
  // Leaf tensors with their names; those that do not require a gradient are frozen.
  explicit ModuleParameters(const std::vector<std::pair<std::string, at::Tensor>>& named_tensors);
  // Takes its hooks away again.
  ~ModuleParameters();
  ModuleParameters(const ModuleParameters&) = delete;

  // In the order given.
  const std::vector<Parameter*>& all() const { return pointers_; }

 private:
  std::vector<std::unique_ptr<Parameter>> parameters_;
  std::vector<Parameter*> pointers_;
};

}  // namespace lathe

#endif  // LATHE_ZERO_MODULE_PARAMETERS_H_
