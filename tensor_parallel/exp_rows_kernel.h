// The softmax pass of the head over a block of logits, in place: two sweeps over a row that stays
// in cache, where LibTorch's operators make four over memory. Called from tensor code only.
#ifndef LATHE_TENSOR_PARALLEL_EXP_ROWS_KERNEL_H_
#define LATHE_TENSOR_PARALLEL_EXP_ROWS_KERNEL_H_

#include <cstdint>

namespace lathe {

// max[r] = max over c of logits[r][c], for rows [first, last) of a row-major [·, columns] block.
void RowMax(const float* logits, int64_t first, int64_t last, int64_t columns, float* max);

// logits[r][c] ← exp(logits[r][c] − shift[r]), sum[r] = their sum. Needs shift[r] ≥ every logit of
// row r; NaN stays NaN. Relative error of an exponential below 3e-7; results under 1e-37 come out
// as about that.
void ExpRows(float* logits, int64_t first, int64_t last, int64_t columns, const float* shift,
             float* sum);

}  // namespace lathe

#endif  // LATHE_TENSOR_PARALLEL_EXP_ROWS_KERNEL_H_
