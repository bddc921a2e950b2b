// Schedules: the order in which one update's micro batches go forward and backward through the
// stages of a pipeline. The trainer knows nothing but these two calls; one stage IS gradient
// accumulation.
//
//   double loss = ForwardBackward(stage, num_micro_batches);
//   ForwardOnly(stage, num_micro_batches, [&](int i, double loss) { ... });
//
// Thread rule: runs on the calling thread; backward on the same one.
#ifndef LATHE_PIPELINE_PARALLEL_SCHEDULE_H_
#define LATHE_PIPELINE_PARALLEL_SCHEDULE_H_

#include <functional>

#include "ATen/core/Tensor.h"
#include "lathe/layers/autograd.h"

namespace lathe {

// A stage bound to one update's micro batches: what a schedule calls. The trainer makes it of a
// models/ Stage, a client of whatever it trains.
class ScheduledStage {
 public:
  virtual ~ScheduledStage() = default;

  // Called before micro batch i's forward; `last`: its backward is the update's last.
  virtual void Begin(int micro_batch, bool last) = 0;
  // Activations in (none on the first stage), activations out.
  virtual TensorList Forward(int micro_batch, const TensorList& activations) = 0;
  // The scalar loss of the last stage's activations, a part of a sum over micro batches.
  virtual at::Tensor Loss(int micro_batch, const TensorList& activations) = 0;
};

// Forward and backward of micro batches 0 … n − 1. Returns the sum of their losses.
double ForwardBackward(ScheduledStage& stage, int num_micro_batches);

// Forward without gradients; `on_loss` gets each micro batch's loss in order.
void ForwardOnly(ScheduledStage& stage, int num_micro_batches,
                 const std::function<void(int micro_batch, double loss)>& on_loss);

}  // namespace lathe

#endif  // LATHE_PIPELINE_PARALLEL_SCHEDULE_H_
