// A model's stage bound to one update's micro batches: what a schedule runs.
//
//   BoundStage bound(stage, loss, optimizer, micro_batches, total_weights);
//   double loss = ForwardBackward(bound, micro_batches.size(), pipeline);
#ifndef LATHE_TRAINER_BOUND_STAGE_H_
#define LATHE_TRAINER_BOUND_STAGE_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "ATen/core/Tensor.h"
#include "lathe/layers/autograd.h"
#include "lathe/models/stage.h"
#include "lathe/pipeline_parallel/schedule.h"
#include "lathe/zero/zero_optimizer.h"

namespace lathe {

class BoundStage : public ScheduledStage {
 public:
  // `total_weights`: what each micro batch's loss is divided by; in training the weight of all
  // micro batches of the update, over all ranks. References must outlive the object.
  BoundStage(Stage& stage, const LossFunction& loss, ZeroOptimizer& optimizer,
             const std::vector<MicroBatch>& batches, std::vector<double> total_weights)
      : stage_(stage),
        loss_(loss),
        optimizer_(optimizer),
        batches_(batches),
        total_weights_(std::move(total_weights)) {}

  void Begin(int micro_batch, bool last) override;
  int64_t NumSamples(int micro_batch) const override {
    return batches_[micro_batch].input_ids.size(0);
  }
  TensorList Forward(int micro_batch, int chunk, const TensorList& activations) override;
  at::Tensor Loss(int micro_batch, const TensorList& activations) override;

 private:
  Stage& stage_;
  const LossFunction& loss_;
  ZeroOptimizer& optimizer_;
  const std::vector<MicroBatch>& batches_;
  const std::vector<double> total_weights_;
};

}  // namespace lathe

#endif  // LATHE_TRAINER_BOUND_STAGE_H_
