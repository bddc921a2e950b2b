// Row lookup with its weight gradient handed to the Parameter's sink. VocabParallelEmbedding wraps
// it.
#ifndef LATHE_LAYERS_EMBEDDING_H_
#define LATHE_LAYERS_EMBEDDING_H_

#include <cstdint>
#include <optional>

#include "ATen/core/Tensor.h"
#include "lathe/layers/parameter.h"

namespace lathe {

// Rows of a table of which this rank holds rows [first_row, first_row + weight.size(0)) of the
// logical one. Shapes: ids [...] int64; weight [rows, hidden]; returns [..., hidden] in weight's
// dtype, zero where an id lies in another rank's rows (the caller sums over ranks). Lookups of
// `padding_id` give no gradient, as torch's padding_idx.
at::Tensor Embedding(const at::Tensor& ids, Parameter& weight, int64_t first_row = 0,
                     std::optional<int64_t> padding_id = std::nullopt);

}  // namespace lathe

#endif  // LATHE_LAYERS_EMBEDDING_H_
