#include "lathe/layers/embedding.h"

#include "lathe/layers/autograd.h"
#include "lathe/layers/gradient_sink.h"
#include "lathe/layers/meta_meter.h"

namespace lathe {
namespace {

// The positions of `ids` (flat) that this rank's rows serve, and their local row numbers.
struct LocalRows {
  at::Tensor rows;     // [n] int64, in range
  at::Tensor missing;  // [n, 1] bool, undefined if it is known that none is missing
};

LocalRows Localise(const at::Tensor& flat_ids, int64_t first_row, int64_t num_rows) {
  at::Tensor rows = first_row == 0 ? flat_ids : flat_ids.sub(first_row);
  const at::Tensor outside = rows.lt(0).bitwise_or_(rows.ge(num_rows));
  // A rehearsal (meta_meter.h) cannot look, and on a GPU looking takes longer than the mask: it
  // waits for all that is under way.
  if (outside.is_meta()) return {rows, {}};
  if (outside.is_cpu() && !outside.any().item().toBool()) return {rows, {}};
  return {rows.masked_fill(outside, 0), outside.unsqueeze(1)};
}

}  // namespace

at::Tensor Embedding(const at::Tensor& ids, Parameter& weight, int64_t first_row,
                     std::optional<int64_t> padding_id) {
  const at::Tensor w = weight.tensor();
  std::vector<int64_t> shape = ids.sizes().vec();
  shape.push_back(w.size(1));
  const at::Tensor flat_ids = ids.reshape({-1});
  const LocalRows local = Localise(flat_ids, first_row, w.size(0));
  at::Tensor y = NoGrad([&] {
    at::Tensor rows = SelectRows(w, local.rows);
    if (local.missing.defined()) rows.masked_fill_(local.missing, 0);
    return rows.view(shape);
  });
  if (!RecordsGradient({w})) return y;
  weight.BeginUse();
  at::Tensor silent = local.missing;  // [n, 1] lookups without a gradient
  if (padding_id) {
    const at::Tensor padding = flat_ids.eq(*padding_id).unsqueeze(1);
    silent = silent.defined() ? silent.bitwise_or(padding) : padding;
  }
  return Record("Embedding", {w}, std::move(y),
                [rows = local.rows, silent, &weight](const at::Tensor& grad) -> TensorList {
                  weight.sink()->Accumulate(weight,
                                            [rows, silent, dy = grad.reshape({-1, grad.size(-1)})](
                                                at::Tensor& sum, bool overwrite) {
                                              if (overwrite) sum.zero_();
                                              at::Tensor value = dy.to(sum.scalar_type());
                                              if (silent.defined())
                                                value = value.masked_fill(silent, 0);
                                              sum.index_add_(0, rows, value);
                                            });
                  return {at::Tensor()};
                });
}

}  // namespace lathe
