// The linear product with its weight gradient handed to the Parameter's sink. Layers
// (tensor_parallel/) wrap it.
#ifndef LATHE_LAYERS_LINEAR_H_
#define LATHE_LAYERS_LINEAR_H_

#include "ATen/core/Tensor.h"
#include "lathe/layers/parameter.h"

namespace lathe {

// y = x · weightᵀ (+ bias).
// Shapes: x [..., in], weight [out, in], bias [out] or null; returns [..., out] in x's dtype.
// Backward: the weight's and bias's gradients go to their sinks; a frozen parameter costs nothing.
at::Tensor Linear(const at::Tensor& x, Parameter& weight, Parameter* bias);

}  // namespace lathe

#endif  // LATHE_LAYERS_LINEAR_H_
