// ZeroOptimizer: the data-parallel axis. It owns main gradients, their reduction over ranks, fp32
// masters, the gradient norm, clipping and the step, by an UpdateRule.
//
//   ZeroOptimizer optimizer(stage->parameters(), {.stage = 2, .weight_decay = 0.1}, context);
//   optimizer.BeginUpdate();
//   for (int i = 0; i < n; ++i) {
//     optimizer.BeginMicroBatch(i, /*last=*/i == n - 1);
//     ...  // forward and backward
//   }
//   ZeroOptimizer::StepResult result = optimizer.Step(learning_rate);
//
// Parameters and gradients lie in flat buckets, each cut into one shard per data-parallel rank
// (flat_layout.h). What a rank keeps, of P parameters on N ranks:
//
//   stage   weights   gradients   masters and states   sent per update of m micro batches
//   0       P         P           P                    2P (N − 1) / N, once
//   1       P         P           P / N                2P (N − 1) / N, once
//   2       P         P / N       P / N                (m + 1) P (N − 1) / N
//   3       P / N     P / N       P / N                3 m P (N − 1) / N, or (m + 1) P (N − 1) / N
//
// Stage 3 makes weights whole around their use, by ZeroUnits (zero_units.h, which says when they
// stay so, and so are sent less often). Under a pipeline stages 2 and 3 keep whole gradients until
// the update's end, as stage 1 does: several micro batches are in flight at once. All stages add in
// one order and cut at the same places: with one micro batch they give the same bits.
//
// Gradients are summed, not averaged, over the ranks: losses are already divided by the update's
// global weight. Buckets are reduced while backward goes on. Order of gradient work: accumulate →
// data-parallel sum → sum over the parameter's own axes → sum of a tied embedding over its two
// pipeline stages → norm over the world, each logical element once → clip → step.
//
// Thread rule: one rank's optimizer is used by the thread that trains.
#ifndef LATHE_ZERO_ZERO_OPTIMIZER_H_
#define LATHE_ZERO_ZERO_OPTIMIZER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "ATen/core/Tensor.h"
#include "lathe/checkpoint/checkpoint.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/layers/gradient_sink.h"
#include "lathe/layers/parameter.h"
#include "lathe/zero/disk_store.h"
#include "lathe/zero/flat_weights.h"
#include "lathe/zero/rule_set.h"
#include "lathe/zero/update_rule.h"
#include "lathe/zero/zero_units.h"

namespace lathe {

// Where masters and states are between updates, instead of the device's memory: in the host's, or
// on a disk, from which a stretch at a time is read, stepped and written, while others are read and
// written. On a disk they are mappings for all others: to be filled, saved and loaded, not copied.
struct StateOffload {
  bool to_host = false;
  bool pin_memory = true;              // where the device is a GPU
  DiskStore* disk = nullptr;           // there, if not null
  int num_buffers = 4;                 // stretches in memory at a time, at least 3
  int64_t stretch_elements = 4 << 20;  // at least 4096
};

// Where this rank's shards of the weights are, likewise.
struct WeightOffload {
  bool to_host = false;
  bool pin_memory = true;
  DiskStore* disk = nullptr;
  int64_t elements_in_memory = 0;  // the first ones stay in memory all the same
};

struct ZeroOptions {
  int stage = 0;  // 0 to 3
  RuleSet rules = AdamWRules({});
  double weight_decay = 0.0;                 // where HasWeightDecay,
  bool all_parameters_decay = false;         // or everywhere
  double max_grad_norm = 1.0;                // 0: no clipping
  int64_t reduce_bucket_elements = 8 << 20;  // per collective; 32 MiB of fp32
  bool overlap_reduction = true;             // with backward; else after it
  // What gradients are kept and sent in; sums over ranks are fp32 all the same. Default:
  // max(weights' dtype, fp32).
  std::optional<at::ScalarType> grad_dtype = std::nullopt;
  StateOffload offload_states = {};
  WeightOffload offload_weights = {};  // stage 3
};

class ZeroOptimizer {
 public:
  // Moves the parameters into flat buckets, puts their gradients into others, sets their sinks, and
  // makes fp32 masters of half-precision weights. Values are set afterwards, into the masters
  // (FillMasters, or loading Weights), which keep what half precision would round off; then
  // AfterLoad. Frozen parameters cost nothing but, at stage 3, their shard. `context`, the
  // parameters and `units` (which stage 3 needs, and other stages leave empty) must outlive the
  // optimizer.
  ZeroOptimizer(const std::vector<Parameter*>& parameters, const ZeroOptions& options,
                const ParallelContext& context, ZeroUnits* units = nullptr);
  ~ZeroOptimizer();
  ZeroOptimizer(const ZeroOptimizer&) = delete;

  // Forgets the gradients of the last update.
  void BeginUpdate();
  // Before each micro batch's forward and backward (before each part of it, if they are apart);
  // `last`: no other follows within this update.
  void BeginMicroBatch(int micro_batch, bool last);

  // Where gradients go; for sinks that do something before, such as deferring them.
  GradientSink& sink() { return sink_; }

  // Completes the gradients' sums, those of parameters included that no micro batch used. Called
  // after the last backward, before any other collective, so that all ranks keep one order.
  // Collective. Throws CollectiveError.
  void FinishGradients();

  // What this rank keeps of them from update to update, on the device and the host.
  struct KeptBytes {
    int64_t weights = 0, gradients = 0, masters = 0, states = 0;
  };
  KeptBytes kept_bytes() const;
  // Elements of its weights that WeightOffload::elements_in_memory keeps off a disk, if there is
  // one or not.
  int64_t weights_in_memory() const { return weights_in_memory_; }

  struct StepResult {
    double grad_norm = 0;  // L2 over the whole model, before clipping
    bool skipped = false;  // norm or loss was not finite: nothing was changed, on any rank
  };
  // Finishes the gradients, clips and updates the weights; skips the update if `loss_is_finite` is
  // false (which all ranks say alike). `loss_scale`: what the loss was multiplied by before
  // backward; norm and update are without it. Collective. Throws CollectiveError.
  StepResult Step(double learning_rate, bool loss_is_finite = true, double loss_scale = 1);

  // Calls fn(parameter, values) for every parameter: `values`, of the local tensor's shape, in
  // max(dtype, fp32) unless frozen, is to be filled; the rank keeps its part. Then call AfterLoad.
  // `which`: for those only; null: all.
  void FillMasters(const std::function<void(Parameter&, const at::Tensor& values)>& fn,
                   const std::function<bool(const Parameter&)>& which = nullptr);

  const RuleSet& rules() const { return options_.rules; }
  // Elements of the flat buckets for each element of a trainable parameter; 1 but for padding.
  double Padding() const;
  // What a checkpoint holds: the weights as `weights_dtype` from the masters, and
  // PARAMETER.STATE of the rule's states, .master (half-precision weights only) and "step". Views
  // of what this rank keeps: to save them, or to load into them (then call AfterLoad).
  std::vector<NamedTensor> Weights(at::ScalarType weights_dtype) const;
  std::vector<NamedTensor> States() const;
  // The last update's sums, clipped where the rule does that in place: of what this rank steps.
  std::vector<NamedTensor> Gradients() const;
  // Brings the weights in line with loaded masters, on all ranks. Collective.
  void AfterLoad();

 private:
  struct Slot;  // one parameter with its states, if it is trainable
  struct Stretch;
  struct Bucket;  // parameters whose gradients are reduced, or whose weights are gathered, at once
  using Slots = std::vector<std::unique_ptr<Slot>>;

  std::vector<Bucket> MakeBuckets(const Slots& slots) const;
  void MoveWeights(Bucket& bucket);
  FlatWeights::Place PlaceOfWeights(const Bucket& bucket);
  void MakeStates(Bucket& bucket);
  void MakeSlotViews(Bucket& bucket);
  void KeepFrozen(const Slots& slots);
  void ProvideGradients(Parameter& parameter);
  void OnReady(Parameter& parameter);
  void LaunchReadyBuckets(bool all);
  void Launch(Bucket& bucket);
  void Absorb();
  void BeginRound();
  void SumParts() const;
  double GradientNorm() const;
  void UpdateStretch(const Bucket& bucket, const Stretch& stretch, UpdateStep step) const;
  void StepInPlace(const UpdateStep& step);
  void StepOffloaded(const UpdateStep& step);
  struct Passage;
  void Enter(Passage& passage) const;
  void Leave(Passage& passage) const;
  bool IsOffloaded() const;
  at::Tensor NewState(int64_t elements, at::ScalarType type, DiskTensor* on_disk) const;
  std::vector<at::Tensor> SlotStates(const Slot& slot) const;
  void RoundMasters(Bucket& bucket);
  void GatherWeights();
  NamedTensor Named(const Slot& slot, const std::string& suffix, const at::Tensor& values,
                    at::ScalarType file_dtype) const;
  NamedTensor NamedState(const Slot& slot, size_t state) const;

  const ZeroOptions options_;
  const ParallelContext& context_;
  const Communicator& dp_;
  const bool shards_states_;     // each rank keeps its shards' masters and states
  const bool shards_gradients_;  // and of gradients nothing else, beyond a micro batch
  const bool shards_weights_;    // and of weights nothing else, beyond their use
  const c10::Device states_device_;
  int64_t weights_in_memory_ = 0;  // elements, of those that go to a disk
  ZeroUnits* const units_;         // null unless weights are sharded
  MainGradSink sink_;
  // Trainable and frozen parameters, in the order in which gradients become ready: reverse model
  // order.
  Slots slots_, frozen_;
  std::unordered_map<const Parameter*, Slot*> slot_of_;  // of trainable ones
  std::vector<Bucket> buckets_, frozen_buckets_;         // the latter where weights are sharded
  size_t next_bucket_ = 0;  // buckets are launched in order, so that all ranks agree
  // Whose reduction is not absorbed yet; it holds a bucket of memory or two, so there is one.
  Bucket* in_flight_ = nullptr;
  int micro_batch_ = -1;  // of the round under way
  bool gradients_finished_ = false;
  at::Tensor step_;  // [1], fp32: updates taken
};

}  // namespace lathe

#endif  // LATHE_ZERO_ZERO_OPTIMIZER_H_
