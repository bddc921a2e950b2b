// Own autograd functions without LibTorch's broad headers: compute the outputs, then record how to
// go back.
//
//   at::Tensor Square(const at::Tensor& x) {
//     at::Tensor y = NoGrad([&] { return at::mul(x, x); });
//     if (!RecordsGradient({x})) return y;
//     return Record("Square", {x}, y, [x = x.detach()](const at::Tensor& dy) -> TensorList {
//       return {at::mul(dy, x).mul_(2)};
//     });
//   }
//
// A backward closure runs without grad mode and returns one gradient per input, undefined for none.
// It must not capture an output itself (a cycle: output → node → output) but may capture its
// detach(). It is dropped after its run. Thread rule: as autograd; a graph belongs to one rank.
#ifndef LATHE_LAYERS_AUTOGRAD_H_
#define LATHE_LAYERS_AUTOGRAD_H_

#include <functional>
#include <vector>

#include "ATen/core/Tensor.h"
#include "ATen/core/grad_mode.h"

namespace lathe {

using TensorList = std::vector<at::Tensor>;

// Whether an operation on these inputs must be recorded: grad mode is on and one of them requires
// grad.
bool RecordsGradient(const TensorList& inputs);

// Runs `fn` without recording.
template <typename Fn>
auto NoGrad(const Fn& fn) {
  at::NoGradGuard no_grad;
  return fn();
}

// Makes `output` (fresh, not a view of an input) the result of a node named `name` over `inputs`.
at::Tensor Record(const char* name, const TensorList& inputs, at::Tensor output,
                  std::function<TensorList(const at::Tensor& grad_output)> backward);

// The same for several outputs; a gradient that nobody sent is undefined.
TensorList RecordMany(const char* name, const TensorList& inputs, TensorList outputs,
                      std::function<TensorList(const TensorList& grad_outputs)> backward);

// Within a backward closure: calls `action` when the backward under way has come to its end.
void AfterBackward(std::function<void()> action);

// Runs backward from `outputs` with `grad_outputs` (undefined: 1 for a scalar). Outputs without a
// graph are skipped. May be called within a backward closure.
void RunBackward(const TensorList& outputs, const TensorList& grad_outputs);

}  // namespace lathe

#endif  // LATHE_LAYERS_AUTOGRAD_H_
