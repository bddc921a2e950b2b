// The gate of a Llama MLP (Shazeer, 2020: "GLU variants improve transformer").
#ifndef LATHE_MODELS_COMMON_SWIGLU_H_
#define LATHE_MODELS_COMMON_SWIGLU_H_

#include "ATen/core/Tensor.h"

namespace lathe {

// silu(gate) · up, elementwise, silu(x) = x / (1 + e⁻ˣ). Same shape and dtype throughout; saves
// only its two inputs.
at::Tensor SwiGlu(const at::Tensor& gate, const at::Tensor& up);

}  // namespace lathe

#endif  // LATHE_MODELS_COMMON_SWIGLU_H_
