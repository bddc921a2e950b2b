#include "lathe/zero/zero_optimizer.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "ATen/core/grad_mode.h"
#include "ATen/ops/_fused_adamw.h"
#include "ATen/ops/cat.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/full.h"
#include "ATen/ops/linalg_vector_norm.h"
#include "ATen/ops/zeros.h"
#include "ATen/ops/zeros_like.h"
#include "c10/util/Exception.h"
#include "lathe/base/beacon.h"
#include "lathe/layers/precision.h"
#include "lathe/zero/weight_decay.h"
#include "lathe/zero/zero_optimizer_parts.h"

namespace lathe {
namespace {

// Reductions that wait for their turn to be added to the shards; each holds two buckets of memory.
constexpr size_t kMaxInFlight = 2;

at::Tensor Part(const at::Tensor& flat, const FlatRange& range) {
  return flat.narrow(0, range.begin, range.size());
}

}  // namespace

ZeroOptimizer::ZeroOptimizer(const std::vector<Parameter*>& parameters, const ZeroOptions& options,
                             const ParallelContext& context)
    : options_(options),
      context_(context),
      dp_(context.Group({"dp"})),
      shards_states_(options.stage >= 1 && dp_.size() > 1),
      shards_gradients_(shards_states_ && options.stage >= 2 && context.mesh().size("pp") == 1) {
  TORCH_CHECK(options.stage >= 0 && options.stage <= 2, "ZeRO stage ", options.stage,
              " is none of 0, 1, 2");
  at::NoGradGuard no_grad;
  for (auto it = parameters.rbegin(); it != parameters.rend(); ++it) {
    Parameter* parameter = *it;
    if (!parameter->trainable()) {
      frozen_.push_back(parameter);
      continue;
    }
    auto slot = std::make_unique<Slot>();
    slot->parameter = parameter;
    slot->decays = options.all_parameters_decay || HasWeightDecay(parameter->name());
    parameter->set_sink(&sink_);
    slots_.push_back(std::move(slot));
  }
  // presubmit: allow at::_fused_adamw_ wants its step count in fp32
  step_ = at::zeros({1}, at::TensorOptions(context.device()).dtype(at::kFloat));
  MakeBuckets();
  sink_.set_on_ready([this](Parameter& parameter) { OnReady(parameter); });
  if (shards_gradients_) {
    sink_.set_on_first_write([this](Parameter& parameter) { ProvideGradients(parameter); });
  }
}

ZeroOptimizer::~ZeroOptimizer() {
  for (const auto& slot : slots_) slot->parameter->set_sink(nullptr);
}

void ZeroOptimizer::MakeBuckets() {
  std::vector<FlatItem> items;
  for (const auto& slot : slots_) {
    const at::Tensor& tensor = slot->parameter->tensor();
    // A tied embedding is cut alike on both stages that hold it: nothing else lies beside it.
    items.push_back({.elements = tensor.numel(),
                     .kind = static_cast<int>(tensor.scalar_type()),
                     .alone = slot->parameter->tied()});
  }
  for (FlatBucket& layout : LayOutFlat(items, options_.reduce_bucket_elements, dp_.size())) {
    Bucket& bucket = buckets_.emplace_back();
    bucket.layout = std::move(layout);
    const int64_t elements = bucket.layout.elements;
    bucket.own =
        shards_states_ ? bucket.layout.ShardOf(dp_.rank(), dp_.size()) : FlatRange{0, elements};
    for (size_t i = 0; i < bucket.layout.items.size(); ++i) {
      Slot* slot = slots_[bucket.layout.items[i]].get();
      slot->bucket = buckets_.size() - 1;
      slot->place = bucket.layout.ranges[i];
      bucket.slots.push_back(slot);
    }
    const at::TensorOptions options = bucket.slots[0]->parameter->tensor().options();
    const at::ScalarType dtype = c10::typeMetaToScalarType(options.dtype());
    const at::ScalarType master_dtype = UpcastType(dtype);
    bucket.weights = at::zeros({elements}, options);
    for (Slot* slot : bucket.slots) {
      slot->parameter->MoveTo(
          Part(bucket.weights, slot->place).view(slot->parameter->tensor().sizes()));
    }
    bucket.masters = Part(bucket.weights, bucket.own);
    if (master_dtype != dtype) bucket.masters = bucket.masters.to(master_dtype);
    bucket.exp_avg = at::zeros_like(bucket.masters);
    bucket.exp_avg_sq = at::zeros_like(bucket.masters);
    const at::TensorOptions grad_options =
        bucket.masters.options().dtype(options_.grad_dtype.value_or(master_dtype));
    if (shards_gradients_) {
      bucket.own_grads = at::empty({bucket.own.size()}, grad_options);
    } else {
      bucket.grads = at::empty({elements}, grad_options);
      bucket.own_grads = Part(bucket.grads, bucket.own);
    }
  }
  for (Bucket& bucket : buckets_) MakeSlotViews(bucket);
}

void ZeroOptimizer::MakeSlotViews(Bucket& bucket) {
  for (Slot* slot : bucket.slots) {
    if (bucket.grads.defined()) {
      slot->parameter->main_grad =
          Part(bucket.grads, slot->place).view(slot->parameter->tensor().sizes());
    }
    const FlatRange held = slot->place.Intersect(bucket.own);
    slot->held = held.empty() ? FlatRange{} : held.Minus(slot->place.begin);
    const FlatRange part = held.empty() ? FlatRange{} : held.Minus(bucket.own.begin);
    slot->grad = Part(bucket.own_grads, part);
    slot->master = Part(bucket.masters, part);
    slot->exp_avg = Part(bucket.exp_avg, part);
    slot->exp_avg_sq = Part(bucket.exp_avg_sq, part);
    for (int shard = 0; shard < dp_.size(); ++shard) {
      const FlatRange cut = held.Intersect(bucket.layout.ShardOf(shard, dp_.size()));
      if (!cut.empty()) slot->cuts.push_back({cut.Minus(held.begin), shard});
    }
  }
}

void ZeroOptimizer::BeginUpdate() {
  while (!in_flight_.empty()) Absorb(*in_flight_.front());  // of an update that was not taken
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
      BeginRound();
    }
    micro_batch_ = micro_batch;
  }
  sink_.BeginMicroBatch(/*last=*/last || shards_gradients_);
}

void ZeroOptimizer::ProvideGradients(Parameter& parameter) {
  for (Bucket& bucket : buckets_) {
    for (Slot* slot : bucket.slots) {
      if (slot->parameter != &parameter) continue;
      bucket.grads = at::empty({bucket.layout.elements}, bucket.own_grads.options());
      for (Slot* other : bucket.slots) {
        other->parameter->main_grad =
            Part(bucket.grads, other->place).view(other->parameter->tensor().sizes());
      }
      return;
    }
  }
}

void ZeroOptimizer::OnReady(Parameter& parameter) {
  // Few parameters: a search per gradient is far below the cost of its product.
  for (Bucket& bucket : buckets_) {
    for (Slot* slot : bucket.slots) {
      if (slot->parameter == &parameter) {
        --bucket.pending;
        if (options_.overlap_reduction) LaunchReadyBuckets(/*all=*/false);
        return;
      }
    }
  }
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
  if (!shards_states_) {
    bucket.sum = dp_.AllReduceAsync(bucket.grads);
    return;
  }
  while (std::find(in_flight_.begin(), in_flight_.end(), &bucket) != in_flight_.end() ||
         in_flight_.size() >= kMaxInFlight) {
    Absorb(*in_flight_.front());
  }
  bucket.shard_sum = dp_.ReduceScatterAsync(bucket.grads);
  in_flight_.push_back(&bucket);
  if (!shards_gradients_) return;
  // The reduction holds the memory for as long as it needs it.
  bucket.grads.reset();
  for (Slot* slot : bucket.slots) {
    slot->parameter->main_grad.reset();
    slot->parameter->set_grad_written(false);
  }
}

void ZeroOptimizer::Absorb(Bucket& bucket) {
  const at::Tensor sum = bucket.shard_sum.Wait();
  bucket.shard_sum = {};
  in_flight_.erase(std::find(in_flight_.begin(), in_flight_.end(), &bucket));
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
  LaunchReadyBuckets(/*all=*/true);
  for (Bucket& bucket : buckets_) bucket.sum.Wait();
  while (!in_flight_.empty()) Absorb(*in_flight_.front());
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
  // By shards, in their order, whoever holds them: all stages get the same bits.
  std::vector<double> squares(dp_.size(), 0.0);
  for (const auto& slot : slots_) {
    if (slot->parameter->shard().replica != 0) continue;
    for (const Slot::Cut& cut : slot->cuts) {
      const double norm = at::linalg_vector_norm(Part(slot->grad, cut.range), 2, std::nullopt,
                                                 false, slot->master.scalar_type())
                              .item()
                              .toDouble();
      squares[cut.shard] += norm * norm;
    }
  }
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
  AdamW(learning_rate, coefficient / loss_scale);
  return result;
}

void ZeroOptimizer::AdamW(double learning_rate, double clip_coefficient) {
  step_.add_(1);
  for (Bucket& bucket : buckets_) {
    for (const bool decays : {true, false}) {
      UpdateBucket(bucket, decays, learning_rate, clip_coefficient);
    }
  }
  PublishWeights();
}

void ZeroOptimizer::UpdateBucket(Bucket& bucket, bool decays, double learning_rate,
                                 double clip_coefficient) {
  std::vector<at::Tensor> weights, grads, exp_avgs, exp_avg_sqs, steps;
  for (const Slot* slot : bucket.slots) {
    if (slot->decays != decays) continue;
    for (const Slot::Cut& cut : slot->cuts) {
      weights.push_back(Part(slot->master, cut.range));
      grads.push_back(Part(slot->grad, cut.range).to(slot->master.scalar_type()));
      exp_avgs.push_back(Part(slot->exp_avg, cut.range));
      exp_avg_sqs.push_back(Part(slot->exp_avg_sq, cut.range));
      steps.push_back(step_);
    }
  }
  if (weights.empty()) return;
  std::optional<at::Tensor> scale;
  if (clip_coefficient != 1 && weights[0].scalar_type() == step_.scalar_type()) {
    // The kernel divides gradients by grad_scale while it reads them: clipping without a pass of
    // its own.
    scale = at::full({}, 1 / clip_coefficient, step_.options());
  } else if (clip_coefficient != 1) {
    // grad_scale is fp32, too coarse for fp64 models.
    for (at::Tensor& grad : grads) grad.mul_(clip_coefficient);
  }
  at::_fused_adamw_(weights, grads, exp_avgs, exp_avg_sqs, /*max_exp_avg_sqs=*/{}, steps,
                    learning_rate, options_.adam_beta1, options_.adam_beta2,
                    decays ? options_.weight_decay : 0.0, options_.adam_epsilon,
                    /*amsgrad=*/false, /*maximize=*/false, scale);
}

void ZeroOptimizer::PublishWeights() {
  std::vector<PendingCollective> gathers;
  for (Bucket& bucket : buckets_) {
    if (bucket.masters.scalar_type() != bucket.weights.scalar_type()) {
      Part(bucket.weights, bucket.own).copy_(bucket.masters);
    }
    if (shards_states_) gathers.push_back(dp_.AllGatherInPlaceAsync(bucket.weights));
  }
  for (const PendingCollective& gather : gathers) gather.Wait();
}

}  // namespace lathe
