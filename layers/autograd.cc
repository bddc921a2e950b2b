#include "lathe/layers/autograd.h"

#include <memory>
#include <utility>

#include "c10/util/Exception.h"
#include "torch/csrc/autograd/autograd.h"
#include "torch/csrc/autograd/engine.h"
#include "torch/csrc/autograd/function.h"
#include "torch/csrc/autograd/functions/utils.h"

namespace lathe {
namespace {

class ClosureNode : public torch::autograd::Node {
 public:
  ClosureNode(const char* name, std::function<TensorList(const TensorList&)> backward)
      : name_(name), backward_(std::move(backward)) {}

  std::string name() const override { return name_; }

  // What the closure holds is freed as soon as this node has run, not when the whole graph goes.
  void release_variables() override { backward_ = nullptr; }

 protected:
  torch::autograd::variable_list apply(torch::autograd::variable_list&& grads) override {
    TORCH_CHECK(backward_ != nullptr, name_, ": backward was run twice");
    at::NoGradGuard no_grad;
    auto backward = std::move(backward_);
    backward_ = nullptr;
    return backward(grads);
  }

 private:
  const char* name_;
  std::function<TensorList(const TensorList&)> backward_;
};

}  // namespace

bool RecordsGradient(const TensorList& inputs) {
  if (!at::GradMode::is_enabled()) return false;
  for (const at::Tensor& input : inputs) {
    if (input.defined() && input.requires_grad()) return true;
  }
  return false;
}

TensorList RecordMany(const char* name, const TensorList& inputs, TensorList outputs,
                      std::function<TensorList(const TensorList&)> backward) {
  std::shared_ptr<ClosureNode> node(new ClosureNode(name, std::move(backward)),
                                    torch::autograd::deleteNode);
  node->set_next_edges(torch::autograd::collect_next_edges(inputs));
  for (at::Tensor& output : outputs) torch::autograd::set_history(output, node);
  return outputs;
}

at::Tensor Record(const char* name, const TensorList& inputs, at::Tensor output,
                  std::function<TensorList(const at::Tensor&)> backward) {
  return RecordMany(
      name, inputs, {std::move(output)},
      [backward = std::move(backward)](const TensorList& grads) { return backward(grads[0]); })[0];
}

void AfterBackward(std::function<void()> action) {
  torch::autograd::Engine::get_default_engine().queue_callback(std::move(action));
}

void RunBackward(const TensorList& outputs, const TensorList& grad_outputs) {
  TORCH_CHECK(outputs.size() == grad_outputs.size(), "one gradient per output");
  TensorList roots, grads;
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i].defined() || !outputs[i].requires_grad()) continue;
    if (!grad_outputs[i].defined() && outputs[i].numel() != 1) continue;
    roots.push_back(outputs[i]);
    grads.push_back(grad_outputs[i]);
  }
  if (!roots.empty()) torch::autograd::backward(roots, grads);
}

}  // namespace lathe
