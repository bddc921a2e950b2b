// ZeroOptimizer: the data-parallel axis. It owns main gradients, their reduction over ranks, fp32
// masters, the gradient norm, clipping and the AdamW step.
//
//   ZeroOptimizer optimizer(stage->parameters(), {.weight_decay = 0.1}, context);
//   optimizer.BeginUpdate();
//   for (i = 0; i < n; ++i) { optimizer.BeginMicroBatch(/*last=*/i == n - 1); forward; backward; }
//   ZeroOptimizer::StepResult result = optimizer.Step(learning_rate);
//
// Stage 0: every data-parallel rank holds everything and takes the same step. Gradients are summed,
// not averaged, over the ranks: losses are already divided by the update's global weight. Buckets
// are reduced while backward goes on.
//
// Order of gradient work: accumulate → sum over the parameter's own axes → sum of a tied embedding
// over its two pipeline stages → data-parallel sum → norm over the world, each logical element once
// → clip → step.
//
// Thread rule: one rank's optimizer is used by the thread that trains.
#ifndef LATHE_ZERO_ZERO_OPTIMIZER_H_
#define LATHE_ZERO_ZERO_OPTIMIZER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "lathe/checkpoint/checkpoint.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/layers/gradient_sink.h"
#include "lathe/layers/parameter.h"

namespace lathe {

struct ZeroOptions {
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double weight_decay = 0.0;                 // where HasWeightDecay
  double max_grad_norm = 1.0;                // 0: no clipping
  int64_t reduce_bucket_elements = 8 << 20;  // per collective; 32 MiB of fp32
};

class ZeroOptimizer {
 public:
  // Puts the parameters' gradients into flat buffers, sets their sinks, and makes fp32 masters of
  // half-precision weights. Values are set afterwards, into the masters (ForEachMaster, or loading
  // Weights), which keep what half precision would round off; then AfterLoad. Frozen parameters
  // cost nothing. `context` and the parameters must outlive the optimizer.
  ZeroOptimizer(const std::vector<Parameter*>& parameters, const ZeroOptions& options,
                const ParallelContext& context);
  ~ZeroOptimizer();
  ZeroOptimizer(const ZeroOptimizer&) = delete;

  // Forgets the gradients of the last update.
  void BeginUpdate();
  // Before each micro batch's forward and backward; `last`: no other follows within this update.
  void BeginMicroBatch(bool last);

  // Where gradients go; for sinks that do something before, such as deferring them.
  GradientSink& sink() { return sink_; }

  struct StepResult {
    double grad_norm = 0;  // L2 over the whole model, before clipping
    bool skipped = false;  // norm or loss was not finite: nothing was changed, on any rank
  };
  // Waits for the reductions, clips and updates the weights; skips the update if `loss_is_finite`
  // is false (which all ranks say alike). Collective. Throws CollectiveError.
  StepResult Step(double learning_rate, bool loss_is_finite = true);

  // Calls fn(parameter, its master) for every parameter; the master is the parameter's own tensor
  // where that is no half type, or frozen. Call AfterLoad when they are filled.
  void ForEachMaster(const std::function<void(Parameter&, const at::Tensor&)>& fn);

  // Starts the reductions that wait for gradients which no micro batch gave. Called after the last
  // backward, before any other collective, so that all ranks keep one order.
  void FinishGradients() { LaunchReadyBuckets(/*all=*/true); }

  // What a checkpoint holds: the weights as `weights_dtype` from the masters, and
  // PARAMETER.exp_avg, .exp_avg_sq, .master (half-precision weights only) and "step". Views: to
  // save them, or to load into them (then call AfterLoad).
  std::vector<NamedTensor> Weights(at::ScalarType weights_dtype) const;
  std::vector<NamedTensor> States() const;
  // Brings the weights in line with loaded masters and the step count with the loaded one.
  void AfterLoad();

 private:
  struct Slot;    // one trainable parameter with its states
  struct Bucket;  // a range of the flat gradient that is reduced at once

  void MakeBuckets();
  void OnReady(Parameter& parameter);
  void LaunchReadyBuckets(bool all);
  // Sums the gradients of which this rank has a part only, those of the same ranks at once.
  void SumParts(const Bucket& bucket) const;
  double GradientNorm() const;
  void AdamW(double learning_rate, double clip_coefficient);

  const ZeroOptions options_;
  const ParallelContext& context_;
  MainGradSink sink_;
  std::vector<std::unique_ptr<Slot>>
      slots_;  // in the order in which gradients become ready: reverse model order
  std::vector<Parameter*> frozen_;
  at::Tensor flat_grads_;
  std::vector<Bucket> buckets_;
  size_t next_bucket_ = 0;  // buckets are launched in order, so that all ranks agree
  at::Tensor step_;         // [1], fp32: updates taken
};

}  // namespace lathe

#endif  // LATHE_ZERO_ZERO_OPTIMIZER_H_
