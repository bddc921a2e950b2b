#include "lathe/layers/gradient_sink.h"

#include "ATen/core/grad_mode.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/mm.h"
#include "c10/util/Exception.h"
#include "lathe/layers/precision.h"

namespace lathe {

void MainGradSink::Accumulate(Parameter& parameter, WeightGradient gradient) {
  AccumulateNow(parameter, gradient);
}

void MainGradSink::AccumulateNow(Parameter& parameter, const WeightGradient& gradient) {
  at::NoGradGuard no_grad;
  if (!parameter.main_grad.defined() && on_first_write_) on_first_write_(parameter);
  if (!parameter.main_grad.defined()) {
    const at::Tensor& tensor = parameter.tensor();
    parameter.main_grad =
        at::empty(tensor.sizes(), tensor.options().dtype(UpcastType(tensor.scalar_type())));
  }
  gradient(parameter.main_grad, /*overwrite=*/!parameter.grad_written());
  parameter.set_grad_written(true);
  parameter.EndUse();
  if (last_ && parameter.pending_uses() == 0 && on_ready_) on_ready_(parameter);
}

void DeferringSink::Accumulate(Parameter& parameter, WeightGradient gradient) {
  queue_.emplace_back(&parameter, std::move(gradient));
}

void DeferringSink::AccumulateNow(Parameter& parameter, const WeightGradient& gradient) {
  inner_.AccumulateNow(parameter, gradient);
}

void DeferringSink::RunFirst(size_t count) {
  TORCH_CHECK(count <= queue_.size(), "only ", queue_.size(), " weight gradients are queued");
  for (; count > 0; --count) {
    auto [parameter, gradient] = std::move(queue_.front());
    queue_.pop_front();
    inner_.Accumulate(*parameter, std::move(gradient));
  }
}

void AccumulateOuterProduct(at::Tensor& accumulator, bool overwrite, const at::Tensor& left,
                            const at::Tensor& right) {
  if (accumulator.scalar_type() == left.scalar_type()) {
    accumulator.addmm_(left.t(), right, /*beta=*/overwrite ? 0 : 1, /*alpha=*/1);
  } else {
    AccumulateValue(accumulator, overwrite, at::mm(left.t(), right));
  }
}

void AccumulateValue(at::Tensor& accumulator, bool overwrite, const at::Tensor& value) {
  if (overwrite) {
    accumulator.copy_(value);
  } else {
    accumulator.add_(value);
  }
}

}  // namespace lathe
