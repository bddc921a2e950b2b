#include "lathe/layers/gradient_sink.h"

#include <algorithm>

#include "ATen/core/grad_mode.h"
#include "ATen/ops/addmm.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/mm.h"
#include "c10/util/Exception.h"
#include "lathe/layers/precision.h"

namespace lathe {
namespace {

constexpr int64_t kConvertedElements = 1 << 18;  // converted at a time

}  // namespace

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
  } else if (accumulator.is_cuda() && accumulator.scalar_type() == UpcastType(left.scalar_type())) {
    // cuBLAS adds products of half types to fp32 itself, without rounding them or a pass of its
    // own.
    at::addmm_out(accumulator, accumulator, left.t(), right, accumulator.scalar_type(),
                  /*beta=*/overwrite ? 0 : 1, /*alpha=*/1);
  } else {
    AccumulateValue(accumulator, overwrite, at::mm(left.t(), right));
  }
}

void AccumulateValue(at::Tensor& accumulator, bool overwrite, const at::Tensor& value) {
  if (overwrite) {
    accumulator.copy_(value);
  } else if (accumulator.is_cpu() && accumulator.scalar_type() != value.scalar_type() &&
             accumulator.is_contiguous() && value.is_contiguous()) {
    // LibTorch converts the whole of `value` into memory of its own first; a part stays in a cache.
    const at::Tensor to = accumulator.view({-1}), from = value.view({-1});
    for (int64_t begin = 0; begin < to.numel(); begin += kConvertedElements) {
      const int64_t length = std::min(kConvertedElements, to.numel() - begin);
      to.narrow(0, begin, length).add_(from.narrow(0, begin, length));
    }
  } else {
    accumulator.add_(value);
  }
}

}  // namespace lathe
