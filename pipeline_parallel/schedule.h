// Schedules: the order in which one update's micro batches go forward and backward through the
// stages of a pipeline. The trainer knows nothing but these two calls; one stage IS gradient
// accumulation.
//
//   const Pipeline pipeline{.group = &context.Group({"pp"})};       // {}: one stage
//   double loss = ForwardBackward(stage, num_micro_batches, pipeline);
//   ForwardOnly(stage, num_micro_batches, pipeline, [&](int i, double loss) { ... });
//
// All ranks of the group make the same calls. Each rank holds one stage of the model, or
// Pipeline::num_chunks of them (actions.h says which). Activations and their gradients travel
// between neighbours while the sender computes on; the receiver posts its receive when it
// needs it next. Their dtypes and shapes are exchanged once per call; its
// micro batches may differ in the number of samples only. With several chunks the activations must
// be alike at all boundaries.
//
// Memory: what a stage keeps for backward is freed micro batch by micro batch, as soon as it has
// been used; the data of activations that were sent are freed when they have arrived, so that of
// them only the graph remains.
//
// Thread rule: runs on the calling thread, backward too; transfers on the group's own. Throws
// CollectiveError when a neighbour is gone.
#ifndef LATHE_PIPELINE_PARALLEL_SCHEDULE_H_
#define LATHE_PIPELINE_PARALLEL_SCHEDULE_H_

#include <cstdint>
#include <functional>

#include "ATen/core/Tensor.h"
#include "c10/core/Device.h"
#include "lathe/comm/communicator.h"
#include "lathe/layers/autograd.h"
#include "lathe/layers/gradient_sink.h"
#include "lathe/pipeline_parallel/actions.h"

namespace lathe {

// This rank's stages bound to one update's micro batches: what a schedule calls. The trainer makes
// it of a models/ Stage, a client of whatever it trains.
class ScheduledStage {
 public:
  virtual ~ScheduledStage() = default;

  // Called before each part of a micro batch's training, forward or backward; `last`: nothing but
  // this micro batch (in this chunk) is left of the update on this rank, so that weight gradients
  // which are complete now are final.
  virtual void Begin(int micro_batch, bool last) = 0;
  // Dim 0 of all activations of a micro batch, the same on all ranks.
  virtual int64_t NumSamples(int micro_batch) const = 0;
  // Activations in (none for the model's first stage), activations out: at least one, the floating
  // ones differentiable. Those that it returns are given away: their data may be dropped.
  virtual TensorList Forward(int micro_batch, int chunk, const TensorList& activations) = 0;
  // The scalar loss of the last stage's activations, a part of a sum over micro batches. Only
  // called where the model's last stage is.
  virtual at::Tensor Loss(int micro_batch, const TensorList& activations) = 0;
};

struct Pipeline {
  const Communicator* group = nullptr;  // null: one rank
  ScheduleKind schedule = ScheduleKind::k1F1B;
  int num_chunks = 1;
  // Where the stages' parameters put their gradients; needed, and only used, for kZeroBubbleH1.
  DeferringSink* deferred = nullptr;
  // Where activations arrive.
  c10::Device device = c10::kCPU;
};

// Forward and backward of micro batches 0 … n − 1, n ≥ 1. Returns the sum of their losses, on the
// rank that holds the last stage; 0 on the others.
double ForwardBackward(ScheduledStage& stage, int num_micro_batches, const Pipeline& pipeline = {});

// Forward without gradients; `on_loss` gets each micro batch's loss in order, on the rank that
// holds the last stage.
void ForwardOnly(ScheduledStage& stage, int num_micro_batches, const Pipeline& pipeline,
                 const std::function<void(int micro_batch, double loss)>& on_loss);

}  // namespace lathe

#endif  // LATHE_PIPELINE_PARALLEL_SCHEDULE_H_
