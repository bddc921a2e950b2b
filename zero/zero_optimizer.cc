#include "lathe/zero/zero_optimizer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "ATen/core/grad_mode.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/linalg_vector_norm.h"
#include "ATen/ops/stack.h"
#include "ATen/ops/zeros.h"
#include "lathe/base/beacon.h"
#include "lathe/layers/meta_meter.h"
#include "lathe/zero/zero_optimizer_parts.h"

namespace lathe {
namespace {

at::Tensor Part(const at::Tensor& flat, const FlatRange& range) {
  return flat.narrow(0, range.begin, range.size());
}

// The values of scalars on one device, which is waited for once. In a rehearsal they have none.
std::vector<double> ValuesOf(const std::vector<at::Tensor>& scalars) {
  if (scalars.empty() || scalars[0].is_meta()) return std::vector<double>(scalars.size(), 0.0);
  const at::Tensor values = at::stack(scalars).to(at::kCPU, at::kDouble);
  const double* const begin = values.const_data_ptr<double>();
  return std::vector<double>(begin, begin + values.numel());
}

}  // namespace

ZeroOptimizer::~ZeroOptimizer() {
  for (const auto& slot : slots_) slot->parameter->set_sink(nullptr);
}

void ZeroOptimizer::BeginUpdate() {
  Absorb();  // of an update that was not taken
  for (const auto& slot : slots_) {
    slot->parameter->set_grad_written(false);
    slot->parameter->ForgetUses();
  }
  for (Bucket& bucket : buckets_) bucket.has_own_grads = false;
  micro_batch_ = -1;
  gradients_finished_ = false;
  BeginRound();
}

void ZeroOptimizer::BeginRound() {
  for (Bucket& bucket : buckets_) bucket.pending = static_cast<int>(bucket.slots.size());
  next_bucket_ = 0;
}

void ZeroOptimizer::BeginMicroBatch(int micro_batch, bool last) {
  if (shards_gradients_ && micro_batch != micro_batch_) {
    // Whatever the micro batch before has left: parameters that it did not use.
    if (micro_batch_ >= 0) {
      LaunchReadyBuckets(/*all=*/true);
      Absorb();
      BeginRound();
    }
    micro_batch_ = micro_batch;
  }
  if (shards_weights_) {
    units_->BeginMicroBatch(/*only=*/micro_batch == 0 && last && context_.mesh().size("pp") == 1);
  }
  sink_.BeginMicroBatch(/*last=*/last || shards_gradients_);
}

void ZeroOptimizer::ProvideGradients(Parameter& parameter) {
  Bucket& bucket = *slot_of_.at(&parameter)->bucket;
  bucket.grads = at::empty({bucket.layout.elements}, bucket.own_grads.options());
  for (Slot* slot : bucket.slots) {
    slot->parameter->main_grad =
        Part(bucket.grads, slot->place).view(slot->parameter->tensor().sizes());
  }
}

void ZeroOptimizer::OnReady(Parameter& parameter) {
  --slot_of_.at(&parameter)->bucket->pending;
  if (options_.overlap_reduction) LaunchReadyBuckets(/*all=*/false);
}

void ZeroOptimizer::LaunchReadyBuckets(bool all) {
  while (next_bucket_ < buckets_.size()) {
    Bucket& bucket = buckets_[next_bucket_];
    if (!all && bucket.pending > 0) return;
    ++next_bucket_;
    Launch(bucket);
  }
}

void ZeroOptimizer::Launch(Bucket& bucket) {
  for (Slot* slot : bucket.slots) {
    Parameter& parameter = *slot->parameter;
    if (parameter.grad_written()) continue;
    // A parameter that no micro batch of this rank used still takes part in the sum.
    if (!bucket.grads.defined()) ProvideGradients(parameter);
    parameter.main_grad.zero_();
    parameter.set_grad_written(true);
  }
  Absorb();
  in_flight_ = &bucket;
  if (!shards_states_) {
    bucket.sum = dp_.AllReduceAsync(bucket.grads);
    return;
  }
  bucket.shard_sum = dp_.ReduceScatterAsync(bucket.grads);
  if (!shards_gradients_) return;
  // The reduction holds the memory for as long as it needs it.
  bucket.grads.reset();
  for (Slot* slot : bucket.slots) {
    slot->parameter->main_grad.reset();
    slot->parameter->set_grad_written(false);
  }
}

void ZeroOptimizer::Absorb() {
  if (in_flight_ == nullptr) return;
  Bucket& bucket = *std::exchange(in_flight_, nullptr);
  if (!shards_states_) return bucket.sum.Wait();
  const at::Tensor sum = bucket.shard_sum.Wait();
  bucket.shard_sum = {};
  if (bucket.has_own_grads) {
    bucket.own_grads.add_(sum);
  } else {
    bucket.own_grads.copy_(sum);
    bucket.has_own_grads = true;
  }
}

void ZeroOptimizer::FinishGradients() {
  if (std::exchange(gradients_finished_, true)) return;
  at::NoGradGuard no_grad;
  if (shards_weights_) units_->EndUpdate();
  LaunchReadyBuckets(/*all=*/true);
  Absorb();
  SumParts();
  for (const auto& slot : slots_) {
    if (slot->parameter->tied()) context_.EmbeddingGroup().AllReduce(slot->grad);
  }
}

void ZeroOptimizer::SumParts() const {
  std::map<PartialSum, std::vector<at::Tensor>> parts;
  for (const auto& slot : slots_) {
    for (const PartialSum& sum : slot->parameter->partial_sums()) {
      if (!slot->held.empty()) parts[sum].push_back(slot->grad);
    }
  }
  // One collective for all that is summed over the same ranks, which hold the same parts of it.
  for (const auto& [sum, grads] : parts) {
    const Communicator& group = context_.Group({sum.axis});
    const at::Tensor flat = at::cat(grads);
    group.AllReduceInBlocks(flat, sum.block == 0 ? group.size() : sum.block);
    int64_t offset = 0;
    for (const at::Tensor& grad : grads) {
      grad.copy_(flat.narrow(0, offset, grad.numel()));
      offset += grad.numel();
    }
  }
}

double ZeroOptimizer::GradientNorm() const {
  std::vector<at::Tensor> norms;
  std::vector<int> shards;
  for (const auto& slot : slots_) {
    if (slot->parameter->shard().replica != 0) continue;
    for (const Slot::Cut& cut : slot->cuts) {
      norms.push_back(at::linalg_vector_norm(Part(slot->grad, cut.range), 2, std::nullopt, false,
                                             slot->master.scalar_type()));
      shards.push_back(cut.shard);
    }
  }
  // By shards, in their order, whoever holds them: all stages get the same bits.
  std::vector<double> squares(dp_.size(), 0.0);
  const std::vector<double> values = ValuesOf(norms);
  for (size_t i = 0; i < values.size(); ++i) squares[shards[i]] += values[i] * values[i];
  at::Tensor total = at::zeros({1}, at::kDouble);
  if (shards_states_) {
    total.add_(squares[dp_.rank()]);
    dp_.AllReduce(total);
  } else {
    for (const double square : squares) total.add_(square);
  }
  context_.Group({"tp", "pp"}).AllReduce(total);
  return std::sqrt(total.item().toDouble());
}

ZeroOptimizer::StepResult ZeroOptimizer::Step(double learning_rate, bool loss_is_finite,
                                              double loss_scale) {
  at::NoGradGuard no_grad;
  FinishGradients();
  BeginPhase(Phase::kOptimizer);
  StepResult result;
  result.grad_norm = GradientNorm() / loss_scale;
  // Every rank sees the same reduced gradients, so all skip or none.
  result.skipped = !loss_is_finite || !std::isfinite(result.grad_norm);
  if (result.skipped) return result;
  // 1e-6 as torch.nn.utils.clip_grad_norm_ has it.
  const double coefficient = options_.max_grad_norm > 0
                                 ? std::min(1.0, options_.max_grad_norm / (result.grad_norm + 1e-6))
                                 : 1.0;
  step_.add_(1);
  const UpdateStep step{.learning_rate = learning_rate,
                        .grad_factor = coefficient / loss_scale,
                        .step = step_,
                        .number = static_cast<int64_t>(ValueOf(step_))};
  if (IsOffloaded()) {
    StepOffloaded(step);
  } else {
    StepInPlace(step);
  }
  GatherWeights();
  return result;
}

void ZeroOptimizer::StepInPlace(const UpdateStep& step) {
  for (Bucket& bucket : buckets_) {
    UpdateStretch(bucket, {{0, bucket.own.size()}, bucket.own_grads, bucket.masters, bucket.states},
                  step);
    RoundMasters(bucket);
  }
}

at::Tensor ZeroOptimizer::Slot::PieceState(size_t i, const at::Tensor& flat,
                                           const FlatRange& range) const {
  switch (rule->states()[i].extent) {
    case RuleState::Extent::kElement:
      return Part(flat, range);
    case RuleState::Extent::kBlock:
      return Part(flat, BlocksOf(range));
    default:
      return states[i];
  }
}

void ZeroOptimizer::UpdateStretch(const Bucket& bucket, const Stretch& stretch,
                                  UpdateStep step) const {
  for (const bool decays : {true, false}) {
    std::vector<UpdatePiece> pieces;
    for (const Slot* slot : bucket.slots) {
      if (slot->decays != decays) continue;
      for (const Slot::Cut& cut : slot->cuts) {
        const FlatRange in_own = cut.range.Minus(-slot->part.begin).Intersect(stretch.range);
        if (in_own.empty()) continue;
        const FlatRange here = in_own.Minus(stretch.range.begin);
        UpdatePiece piece{.weight = Part(stretch.masters, here),
                          .grad = Part(stretch.grads, here).to(stretch.masters.scalar_type()),
                          .offset = slot->held.begin - slot->part.begin + in_own.begin,
                          .shape = slot->parameter->tensor().sizes().vec()};
        for (size_t i = 0; i < stretch.states.size(); ++i) {
          piece.states.push_back(slot->PieceState(i, stretch.states[i], here));
        }
        pieces.push_back(std::move(piece));
      }
    }
    step.weight_decay = decays ? options_.weight_decay : 0.0;
    if (!pieces.empty()) bucket.rule->Update(pieces, step);
  }
}

void ZeroOptimizer::RoundMasters(Bucket& bucket) {
  if (bucket.has_masters()) bucket.own_weights.copy_(bucket.masters);
}

void ZeroOptimizer::GatherWeights() {
  if (shards_weights_) return units_->Refresh();
  if (!shards_states_) return;
  std::vector<PendingCollective> gathers;
  for (Bucket& bucket : buckets_) gathers.push_back(dp_.AllGatherInPlaceAsync(bucket.weights));
  for (const PendingCollective& gather : gathers) gather.Wait();
}

}  // namespace lathe
