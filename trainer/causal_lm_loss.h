// Next-token cross-entropy over a whole update.
#ifndef LATHE_TRAINER_CAUSAL_LM_LOSS_H_
#define LATHE_TRAINER_CAUSAL_LM_LOSS_H_

#include "lathe/models/stage.h"

namespace lathe {

// Position t predicts label t + 1; labels of −100 do not count. The weight of a micro batch is its
// number of labels that count, so a micro batch with more of them weighs more, whatever the
// accumulation. Source: transformers loss/loss_utils.py, ForCausalLMLoss with num_items_in_batch.
class CausalLmLoss : public LossFunction {
 public:
  double Weight(const MicroBatch& batch) const override;
  at::Tensor Compute(const at::Tensor& hidden, OutputHead& head, const MicroBatch& batch,
                     double total_weight) const override;
};

}  // namespace lathe

#endif  // LATHE_TRAINER_CAUSAL_LM_LOSS_H_
