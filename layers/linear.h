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

// y + bias, into y's memory, which nobody else may read.
// Shapes: y [..., out], bias [out]; returns y's shape. The bias's gradient goes to its sink.
at::Tensor AddBias(const at::Tensor& y, Parameter& bias);

// The backward of Linear in parts, for layers whose own node does more than the product
// (tensor_parallel/). dy [rows, out], x [rows, in].

// Notes a use in a recorded forward, to be followed by one Sink call for each parameter.
void BeginLinearUse(Parameter& weight, Parameter* bias);

// Hands dyᵀ · x to the weight's sink, unless it is frozen.
void SinkWeightGradient(const at::Tensor& x, const at::Tensor& dy, Parameter& weight);

// Hands the sum of dy's rows to the bias's sink, unless it is null or frozen.
void SinkBiasGradient(const at::Tensor& dy, Parameter* bias);

}  // namespace lathe

#endif  // LATHE_LAYERS_LINEAR_H_
