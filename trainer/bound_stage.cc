#include "lathe/trainer/bound_stage.h"

namespace lathe {

void BoundStage::Begin(int micro_batch, bool last) {
  optimizer_.BeginMicroBatch(micro_batch, last);
}

TensorList BoundStage::Forward(int micro_batch, int chunk, const TensorList& activations) {
  return stage_.Forward(batches_[micro_batch], chunk, activations);
}

at::Tensor BoundStage::Loss(int micro_batch, const TensorList& activations) {
  return loss_.Compute(activations[0], *stage_.head(), batches_[micro_batch],
                       total_weights_[micro_batch]);
}

}  // namespace lathe
