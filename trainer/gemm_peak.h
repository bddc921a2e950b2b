// The matrix-product speed of this machine, measured: what utilisation is a share of.
#ifndef LATHE_TRAINER_GEMM_PEAK_H_
#define LATHE_TRAINER_GEMM_PEAK_H_

#include "ATen/core/Tensor.h"

namespace lathe {

// FLOP/s of the best of a few square products of this dtype on this device, on the CPU with the
// threads that are set now. Takes about 0.1 s.
double MeasureGemmPeak(at::TensorOptions tensor_options);

}  // namespace lathe

#endif  // LATHE_TRAINER_GEMM_PEAK_H_
