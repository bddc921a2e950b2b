#include "lathe/zero/module_parameters.h"

#include "c10/util/Exception.h"
#include "lathe/layers/gradient_sink.h"
#include "torch/csrc/autograd/function_hook.h"
#include "torch/csrc/autograd/variable.h"

namespace lathe {
namespace {

// Hands the gradient that autograd has just accumulated to the parameter's sink.
class TakeGradient : public torch::autograd::PostAccumulateGradHook {
 public:
  explicit TakeGradient(Parameter& parameter) : parameter_(parameter) {}

  void operator()(const torch::autograd::Variable& tensor) override {
    if (parameter_.sink() == nullptr) return;  // no optimizer
    const at::Tensor grad = tensor.grad();
    tensor.mutable_grad().reset();
    // Autograd adds up all uses of a backward before it comes here.
    parameter_.BeginUse();
    parameter_.sink()->Accumulate(parameter_, [grad](at::Tensor& sum, bool overwrite) {
      AccumulateValue(sum, overwrite, grad);
    });
  }

 private:
  Parameter& parameter_;
};

}  // namespace

ModuleParameters::ModuleParameters(
    const std::vector<std::pair<std::string, at::Tensor>>& named_tensors) {
  for (const auto& [name, tensor] : named_tensors) {
    TORCH_CHECK(tensor.is_leaf(), name, " is not a leaf, so autograd keeps no gradient of it");
    const std::vector<int64_t> shape = tensor.sizes().vec();
    const bool trainable = tensor.requires_grad();
    auto parameter = std::make_unique<Parameter>(name, shape, ShardSpec::Whole(shape), tensor,
                                                 Initializer::Zeros());
    parameter->set_trainable(trainable);
    if (trainable) {
      torch::autograd::impl::set_post_acc_grad_hooks(tensor,
                                                     std::make_unique<TakeGradient>(*parameter));
    }
    pointers_.push_back(parameter.get());
    parameters_.push_back(std::move(parameter));
  }
}

ModuleParameters::~ModuleParameters() {
  for (const auto& parameter : parameters_) {
    if (!parameter->trainable()) continue;
    torch::autograd::impl::set_post_acc_grad_hooks(parameter->tensor(), nullptr);
  }
}

}  // namespace lathe
