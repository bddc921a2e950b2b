#include "lathe/trainer/causal_lm_loss.h"

#include "ATen/ops/cat.h"
#include "ATen/ops/full.h"

namespace lathe {
namespace {

constexpr int64_t kIgnore = -100;

}  // namespace

double CausalLmLoss::Weight(const MicroBatch& batch) const {
  return batch.labels.narrow(1, 1, batch.labels.size(1) - 1).ne(kIgnore).sum().item().toDouble();
}

at::Tensor CausalLmLoss::Compute(const at::Tensor& hidden, OutputHead& head,
                                 const MicroBatch& batch, double total_weight) const {
  const int64_t rows = batch.labels.size(0), seq = batch.labels.size(1);
  // Shifted left; the last position has nothing to predict.
  const at::Tensor targets = at::cat(
      {batch.labels.narrow(1, 1, seq - 1), at::full({rows, 1}, kIgnore, batch.labels.options())},
      1);
  // An update without any label has loss 0, not 0/0.
  const double each = total_weight > 0 ? 1 / total_weight : 0;
  const at::Tensor weights = targets.ne(kIgnore).to(at::kDouble).mul_(each);
  return head.WeightedCrossEntropy(hidden, targets, weights);
}

}  // namespace lathe
