// Root-mean-square normalisation (Zhang and Sennrich, 2019), as Llama and Qwen2 use it.
#ifndef LATHE_LAYERS_RMS_NORM_H_
#define LATHE_LAYERS_RMS_NORM_H_

#include "ATen/core/Tensor.h"
#include "lathe/layers/parameter.h"

namespace lathe {

// y = weight · round(x / sqrt(mean(x²) + eps)), the mean and quotient in max(dtype, fp32), rounded
// to x's dtype before the product, as transformers' LlamaRMSNorm does. Shapes: x [..., hidden],
// weight [hidden]; returns x's shape and dtype. Saves x and one number per row.
at::Tensor RmsNorm(const at::Tensor& x, Parameter& weight, double eps);

}  // namespace lathe

#endif  // LATHE_LAYERS_RMS_NORM_H_
