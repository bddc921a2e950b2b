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

namespace lathe {

struct ZeroOptimizer::Slot {
  Parameter* parameter;
  bool decays;
  at::Tensor
      master;  // what AdamW updates: the parameter's own tensor unless that is half precision
  at::Tensor exp_avg, exp_avg_sq;
  size_t bucket = 0;
};

struct ZeroOptimizer::Bucket {
  at::Tensor grads;  // a range of flat_grads_
  std::vector<Slot*> slots;
  bool tied = false;  // another pipeline stage has a part of one of the gradients
  int pending = 0;    // slots that are not ready yet
  PendingCollective reduction;
};

ZeroOptimizer::ZeroOptimizer(const std::vector<Parameter*>& parameters, const ZeroOptions& options,
                             const ParallelContext& context)
    : options_(options), context_(context) {
  at::NoGradGuard no_grad;
  for (auto it = parameters.rbegin(); it != parameters.rend(); ++it) {
    Parameter* parameter = *it;
    if (!parameter->trainable()) {
      frozen_.push_back(parameter);
      continue;
    }
    auto slot = std::make_unique<Slot>();
    slot->parameter = parameter;
    slot->decays = HasWeightDecay(parameter->name());
    const at::Tensor weight = parameter->tensor().detach();
    slot->master = Upcast(weight);  // shares memory unless it is half precision
    slot->exp_avg = at::zeros_like(slot->master);
    slot->exp_avg_sq = at::zeros_like(slot->master);
    parameter->set_sink(&sink_);
    slots_.push_back(std::move(slot));
  }
  // presubmit: allow at::_fused_adamw_ wants its step count in fp32
  step_ = at::zeros({1}, at::TensorOptions(context.device()).dtype(at::kFloat));
  MakeBuckets();
  sink_.set_on_ready([this](Parameter& parameter) { OnReady(parameter); });
}

ZeroOptimizer::~ZeroOptimizer() {
  for (const auto& slot : slots_) slot->parameter->set_sink(nullptr);
}

void ZeroOptimizer::MakeBuckets() {
  if (slots_.empty()) return;
  int64_t total = 0;
  for (const auto& slot : slots_) total += slot->master.numel();
  flat_grads_ = at::empty({total}, slots_[0]->master.options());
  int64_t offset = 0, bucket_start = 0;
  buckets_.emplace_back();
  for (const auto& slot : slots_) {
    const int64_t size = slot->master.numel();
    if (offset > bucket_start && offset + size - bucket_start > options_.reduce_bucket_elements) {
      buckets_.back().grads = flat_grads_.narrow(0, bucket_start, offset - bucket_start);
      buckets_.emplace_back();
      bucket_start = offset;
    }
    slot->bucket = buckets_.size() - 1;
    buckets_.back().slots.push_back(slot.get());
    buckets_.back().tied |= slot->parameter->tied();
    slot->parameter->main_grad = flat_grads_.narrow(0, offset, size).view(slot->master.sizes());
    offset += size;
  }
  buckets_.back().grads = flat_grads_.narrow(0, bucket_start, offset - bucket_start);
}

void ZeroOptimizer::BeginUpdate() {
  for (const auto& slot : slots_) {
    slot->parameter->set_grad_written(false);
    slot->parameter->ForgetUses();
  }
  for (Bucket& bucket : buckets_) bucket.pending = static_cast<int>(bucket.slots.size());
  next_bucket_ = 0;
}

void ZeroOptimizer::BeginMicroBatch(bool last) { sink_.BeginMicroBatch(last); }

void ZeroOptimizer::OnReady(Parameter& parameter) {
  // Few parameters: a search per gradient is far below the cost of its product.
  for (Bucket& bucket : buckets_) {
    for (Slot* slot : bucket.slots) {
      if (slot->parameter == &parameter) {
        --bucket.pending;
        LaunchReadyBuckets(/*all=*/false);
        return;
      }
    }
  }
}

void ZeroOptimizer::LaunchReadyBuckets(bool all) {
  const Communicator& dp = context_.Group({"dp"});
  while (next_bucket_ < buckets_.size()) {
    Bucket& bucket = buckets_[next_bucket_];
    // The stages of a pipeline meet when their backwards are done, not within: one may wait for the
    // other's gradients.
    if (!all && (bucket.pending > 0 || bucket.tied)) return;
    ++next_bucket_;
    for (Slot* slot : bucket.slots) {
      Parameter& parameter = *slot->parameter;
      // A parameter that no micro batch of this rank used still takes part in the sum.
      if (!parameter.grad_written()) parameter.main_grad.zero_();
      parameter.set_grad_written(true);
    }
    SumParts(bucket);
    for (Slot* slot : bucket.slots) {
      Parameter& parameter = *slot->parameter;
      if (parameter.tied()) context_.EmbeddingGroup().AllReduce(parameter.main_grad);
    }
    bucket.reduction = dp.AllReduceAsync(bucket.grads);
  }
}

void ZeroOptimizer::SumParts(const Bucket& bucket) const {
  std::map<PartialSum, std::vector<at::Tensor>> parts;
  for (const Slot* slot : bucket.slots) {
    for (const PartialSum& sum : slot->parameter->partial_sums()) {
      parts[sum].push_back(slot->parameter->main_grad);
    }
  }
  for (const auto& [sum, grads] : parts) {
    const Communicator& group = context_.Group({sum.axis});
    const int block = sum.block == 0 ? group.size() : sum.block;
    if (grads.size() == 1) {
      group.AllReduceInBlocks(grads[0], block);
      continue;
    }
    std::vector<at::Tensor> flat_grads;
    for (const at::Tensor& grad : grads) flat_grads.push_back(grad.view({-1}));
    const at::Tensor flat = at::cat(flat_grads);
    group.AllReduceInBlocks(flat, block);
    int64_t offset = 0;
    for (const at::Tensor& grad : flat_grads) {
      grad.copy_(flat.narrow(0, offset, grad.numel()));
      offset += grad.numel();
    }
  }
}

double ZeroOptimizer::GradientNorm() const {
  double sum = 0;
  for (const auto& slot : slots_) {
    const Parameter& parameter = *slot->parameter;
    if (parameter.shard().replica != 0) continue;
    const double norm = at::linalg_vector_norm(parameter.main_grad, 2, std::nullopt, false,
                                               slot->master.scalar_type())
                            .item()
                            .toDouble();
    sum += norm * norm;
  }
  // Ranks along dp hold the same gradients; along the others they hold different parts.
  at::Tensor total = at::full({1}, sum, at::kDouble);
  context_.Group({"tp", "pp"}).AllReduce(total);
  return std::sqrt(total.item().toDouble());
}

ZeroOptimizer::StepResult ZeroOptimizer::Step(double learning_rate, bool loss_is_finite) {
  at::NoGradGuard no_grad;
  LaunchReadyBuckets(/*all=*/true);
  for (Bucket& bucket : buckets_) bucket.reduction.Wait();
  BeginPhase(Phase::kOptimizer);
  StepResult result;
  result.grad_norm = GradientNorm();
  // Every rank sees the same reduced gradients, so all skip or none.
  result.skipped = !loss_is_finite || !std::isfinite(result.grad_norm);
  if (result.skipped) return result;
  // 1e-6 as torch.nn.utils.clip_grad_norm_ has it.
  const double coefficient = options_.max_grad_norm > 0
                                 ? std::min(1.0, options_.max_grad_norm / (result.grad_norm + 1e-6))
                                 : 1.0;
  AdamW(learning_rate, coefficient);
  return result;
}

void ZeroOptimizer::AdamW(double learning_rate, double clip_coefficient) {
  step_.add_(1);
  for (const bool decays : {true, false}) {
    std::vector<at::Tensor> weights, grads, exp_avgs, exp_avg_sqs, steps;
    for (const auto& slot : slots_) {
      if (slot->decays != decays) continue;
      weights.push_back(slot->master);
      grads.push_back(slot->parameter->main_grad);
      exp_avgs.push_back(slot->exp_avg);
      exp_avg_sqs.push_back(slot->exp_avg_sq);
      steps.push_back(step_);
    }
    if (weights.empty()) continue;
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
  for (const auto& slot : slots_) {
    const at::Tensor weight = slot->parameter->tensor().detach();
    if (!slot->master.is_same(weight) && slot->master.scalar_type() != weight.scalar_type()) {
      weight.copy_(slot->master);
    }
  }
}

namespace {

NamedTensor Named(const Parameter& parameter, const std::string& suffix, const at::Tensor& local,
                  at::ScalarType file_dtype) {
  NamedTensor tensor{.name = parameter.name() + suffix,
                     .full_shape = parameter.full_shape(),
                     .file_dtype = file_dtype,
                     .replica = parameter.shard().replica,
                     .pieces = {}};
  for (LogicalPiece& piece : LogicalPieces(parameter, local)) {
    tensor.pieces.push_back({std::move(piece.logical), std::move(piece.view)});
  }
  return tensor;
}

// Data-parallel ranks other than 0 hold copies.
void MarkReplicas(std::vector<NamedTensor>& tensors, const ParallelContext& context) {
  if (context.Group({"dp"}).rank() == 0) return;
  for (NamedTensor& tensor : tensors) tensor.replica += context.world_size();
}

}  // namespace

std::vector<NamedTensor> ZeroOptimizer::Weights(at::ScalarType weights_dtype) const {
  std::vector<NamedTensor> tensors;
  for (auto it = slots_.rbegin(); it != slots_.rend(); ++it) {
    tensors.push_back(Named(*(*it)->parameter, "", (*it)->master, weights_dtype));
  }
  for (const Parameter* parameter : frozen_) {
    tensors.push_back(Named(*parameter, "", parameter->tensor().detach(), weights_dtype));
  }
  MarkReplicas(tensors, context_);
  return tensors;
}

std::vector<NamedTensor> ZeroOptimizer::States() const {
  std::vector<NamedTensor> tensors;
  for (auto it = slots_.rbegin(); it != slots_.rend(); ++it) {
    const Slot& slot = **it;
    const at::ScalarType type = slot.master.scalar_type();
    tensors.push_back(Named(*slot.parameter, ".exp_avg", slot.exp_avg, type));
    tensors.push_back(Named(*slot.parameter, ".exp_avg_sq", slot.exp_avg_sq, type));
    if (type != slot.parameter->tensor().scalar_type()) {
      tensors.push_back(Named(*slot.parameter, ".master", slot.master, type));
    }
  }
  tensors.push_back({.name = "step",
                     .full_shape = {1},
                     .file_dtype = step_.scalar_type(),
                     .replica = context_.Group({"tp", "pp"}).rank(),
                     .pieces = {{Box::Whole({1}), step_}}});
  MarkReplicas(tensors, context_);
  return tensors;
}

void ZeroOptimizer::ForEachMaster(const std::function<void(Parameter&, const at::Tensor&)>& fn) {
  at::NoGradGuard no_grad;
  for (const auto& slot : slots_) fn(*slot->parameter, slot->master);
  for (Parameter* parameter : frozen_) fn(*parameter, parameter->tensor().detach());
}

void ZeroOptimizer::AfterLoad() {
  at::NoGradGuard no_grad;
  for (const auto& slot : slots_) {
    const at::Tensor weight = slot->parameter->tensor().detach();
    if (slot->master.scalar_type() != weight.scalar_type()) weight.copy_(slot->master);
  }
}

}  // namespace lathe
