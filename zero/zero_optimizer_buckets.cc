// How ZeroOptimizer lays parameters, gradients and states out in memory.
#include <memory>
#include <utility>

#include "ATen/core/grad_mode.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/zeros.h"
#include "ATen/ops/zeros_like.h"
#include "c10/util/Exception.h"
#include "lathe/layers/precision.h"
#include "lathe/zero/weight_decay.h"
#include "lathe/zero/zero_optimizer.h"
#include "lathe/zero/zero_optimizer_parts.h"

namespace lathe {
namespace {

at::Tensor Part(const at::Tensor& flat, const FlatRange& range) {
  return flat.narrow(0, range.begin, range.size());
}

bool OffloadsWeights(const ZeroOptions& options) {
  return options.offload_weights.to_host || options.offload_weights.disk != nullptr;
}

at::Tensor WholeView(const at::Tensor& flat, const FlatRange& place, const Parameter& parameter) {
  return Part(flat, place).view(parameter.tensor().sizes());
}

void CheckCuts(const Parameter& parameter, const UpdateRule& rule) {
  if (rule.cuts() == UpdateRule::Cuts::kAnywhere) return;
  const std::vector<ShardPiece>& pieces = parameter.shard().pieces;
  TORCH_CHECK(pieces.size() == 1 && parameter.tensor().sizes() == parameter.full_shape() &&
                  pieces[0].logical.length == parameter.full_shape(),
              parameter.name(), ": this rule steps whole parameters, not tensor-parallel slices");
}

// Elements of a state of this shape's parameter, by row or by column.
int64_t NumStateElements(RuleState::Extent extent, at::IntArrayRef shape) {
  const size_t left_out = extent == RuleState::Extent::kRow ? shape.size() - 1 : shape.size() - 2;
  int64_t elements = 1;
  for (size_t dim = 0; dim < shape.size(); ++dim) {
    if (dim != left_out) elements *= shape[dim];
  }
  return elements;
}

}  // namespace

ZeroOptimizer::ZeroOptimizer(const std::vector<Parameter*>& parameters, const ZeroOptions& options,
                             const ParallelContext& context, ZeroUnits* units)
    : options_(options),
      context_(context),
      dp_(context.Group({"dp"})),
      shards_states_(options.stage >= 1 && (dp_.size() > 1 || OffloadsWeights(options))),
      shards_gradients_(options.stage >= 2 && dp_.size() > 1 && context.mesh().size("pp") == 1),
      shards_weights_(shards_states_ && options.stage == 3),
      states_device_(options.offload_states.to_host || options.offload_states.disk != nullptr
                         ? c10::Device(at::kCPU)
                         : context.device()),
      units_(shards_weights_ ? units : nullptr) {
  TORCH_CHECK(options.stage >= 0 && options.stage <= 3, "ZeRO stage ", options.stage,
              " is none of 0, 1, 2, 3");
  TORCH_CHECK(options.stage < 3 || units != nullptr,
              "ZeRO stage 3 needs the ZeroUnits by which the model's UnitRunner gathers weights");
  TORCH_CHECK(!options.rules.RestrictsCuts() || options.offload_states.disk == nullptr,
              options.rules.name, " steps whole parameters or blocks of them, not from a disk");
  at::NoGradGuard no_grad;
  for (auto it = parameters.rbegin(); it != parameters.rend(); ++it) {
    auto slot = std::make_unique<Slot>();
    slot->parameter = *it;
    if (!slot->parameter->trainable()) {
      frozen_.push_back(std::move(slot));
      continue;
    }
    slot->decays = options.all_parameters_decay || HasWeightDecay(slot->parameter->name());
    slot->rule = &options_.rules.Of(*slot->parameter);
    CheckCuts(*slot->parameter, *slot->rule);
    slot->parameter->set_sink(&sink_);
    slot_of_[slot->parameter] = slot.get();
    slots_.push_back(std::move(slot));
  }
  // presubmit: allow at::_fused_adamw_ wants its step count in fp32
  step_ = at::zeros({1}, at::TensorOptions(states_device_).dtype(at::kFloat));
  buckets_ = MakeBuckets(slots_);
  for (Bucket& bucket : buckets_) {
    MoveWeights(bucket);
    MakeStates(bucket);
    MakeSlotViews(bucket);
  }
  KeepFrozen(frozen_);
  if (shards_weights_) units_->Seal();
  sink_.set_on_ready([this](Parameter& parameter) { OnReady(parameter); });
  if (shards_gradients_) {
    sink_.set_on_first_write([this](Parameter& parameter) { ProvideGradients(parameter); });
  }
}

std::vector<ZeroOptimizer::Bucket> ZeroOptimizer::MakeBuckets(const Slots& slots) const {
  std::vector<FlatItem> items;
  for (const auto& slot : slots) {
    const at::Tensor& tensor = slot->parameter->tensor();
    // A tied embedding is cut alike on both stages that hold it: nothing else lies beside it.
    FlatItem& item = items.emplace_back(FlatItem{.elements = tensor.numel(),
                                                 .kind = 2 * static_cast<int>(tensor.scalar_type()),
                                                 .unit = slot->parameter->unit(),
                                                 .alone = slot->parameter->tied()});
    if (slot->rule == nullptr) continue;
    if (slot->rule != options_.rules.rule.get()) ++item.kind;
    if (slot->rule->cuts() == UpdateRule::Cuts::kBlocks) item.alignment = kStateBlock;
    item.whole = slot->rule->cuts() == UpdateRule::Cuts::kNowhere;
  }
  std::vector<Bucket> buckets;
  for (FlatBucket& layout : LayOutFlat(items, options_.reduce_bucket_elements, dp_.size())) {
    Bucket& bucket = buckets.emplace_back();
    bucket.layout = std::move(layout);
    bucket.own = shards_states_ ? bucket.layout.ShardOf(dp_.rank(), dp_.size())
                                : FlatRange{0, bucket.layout.elements};
    for (size_t i = 0; i < bucket.layout.items.size(); ++i) {
      Slot* slot = slots[bucket.layout.items[i]].get();
      slot->place = bucket.layout.ranges[i];
      const FlatRange held = slot->place.Intersect(bucket.own);
      slot->held = held.empty() ? FlatRange{} : held.Minus(slot->place.begin);
      bucket.slots.push_back(slot);
      bucket.rule = slot->rule;
    }
  }
  return buckets;
}

void ZeroOptimizer::MoveWeights(Bucket& bucket) {
  const int64_t elements = bucket.layout.elements;
  const at::TensorOptions options =
      bucket.slots[0]->parameter->tensor().options().device(context_.device());
  if (!shards_weights_) {
    bucket.weights = at::zeros({elements}, options);
    bucket.own_weights = Part(bucket.weights, bucket.own);
    for (Slot* slot : bucket.slots) {
      slot->parameter->MoveTo(WholeView(bucket.weights, slot->place, *slot->parameter));
    }
    return;
  }
  bucket.flat = std::make_unique<FlatWeights>(elements, options, dp_, PlaceOfWeights(bucket));
  bucket.weights = bucket.flat->whole();
  bucket.own_weights = bucket.flat->own();
  for (Slot* slot : bucket.slots) {
    Parameter& parameter = *slot->parameter;
    if (!parameter.tensor().is_meta() && !slot->held.empty()) {
      Part(bucket.own_weights, slot->place.Intersect(bucket.own).Minus(bucket.own.begin))
          .copy_(Part(parameter.tensor().reshape({-1}), slot->held));
    }
    parameter.PointTo(WholeView(bucket.weights, slot->place, parameter));
  }
  units_->Add(bucket.slots[0]->parameter->unit(), bucket.flat.get());
}

FlatWeights::Place ZeroOptimizer::PlaceOfWeights(const Bucket& bucket) {
  const WeightOffload& offload = options_.offload_weights;
  const bool on_gpu = !context_.device().is_cpu();
  FlatWeights::Place place{.device = context_.device()};
  const bool stays = weights_in_memory_ + bucket.own.size() <= offload.elements_in_memory;
  if (stays) weights_in_memory_ += bucket.own.size();
  if (offload.disk != nullptr) {
    place.device = at::kCPU;
    if (!stays) {
      place.disk = offload.disk;
      return place;
    }
  }
  if (offload.to_host && !context_.device().is_meta()) place.device = at::kCPU;
  place.pinned = on_gpu && place.device.is_cpu() && offload.pin_memory;
  return place;
}

void ZeroOptimizer::MakeStates(Bucket& bucket) {
  const at::ScalarType dtype = bucket.weights.scalar_type();
  const at::ScalarType master_dtype = UpcastType(dtype);
  bucket.masters = bucket.own_weights;
  if (master_dtype != dtype || bucket.own_weights.device() != states_device_) {
    bucket.masters = NewState(bucket.own.size(), master_dtype, &bucket.masters_on_disk);
    bucket.masters.copy_(bucket.own_weights);
  } else if (shards_weights_) {
    bucket.masters_on_disk = bucket.flat->own_on_disk();
  }
  for (const RuleState& state : bucket.rule->states()) {
    at::Tensor& flat = bucket.states.emplace_back();
    DiskTensor& on_disk = bucket.states_on_disk.emplace_back();
    const at::ScalarType type = state.dtype.value_or(master_dtype);
    if (state.extent == RuleState::Extent::kElement) {
      flat = NewState(bucket.own.size(), type, &on_disk);
    } else if (state.extent == RuleState::Extent::kBlock) {
      flat = NewState(bucket.own.size() / kStateBlock, type, &on_disk);
    }
  }
  const at::TensorOptions grad_options =
      bucket.weights.options().dtype(options_.grad_dtype.value_or(master_dtype));
  if (shards_gradients_) {
    bucket.own_grads = at::empty({bucket.own.size()}, grad_options);
  } else {
    bucket.grads = at::empty({bucket.layout.elements}, grad_options);
    bucket.own_grads = Part(bucket.grads, bucket.own);
  }
}

std::vector<at::Tensor> ZeroOptimizer::SlotStates(const Slot& slot) const {
  std::vector<at::Tensor> states;
  if (slot.part.empty()) return states;
  for (size_t i = 0; i < slot.rule->states().size(); ++i) {
    const RuleState& state = slot.rule->states()[i];
    const at::Tensor& flat = slot.bucket->states[i];
    if (state.extent == RuleState::Extent::kElement) {
      states.push_back(Part(flat, slot.part));
    } else if (state.extent == RuleState::Extent::kBlock) {
      states.push_back(Part(flat, BlocksOf(slot.part)));
    } else {
      DiskTensor none;
      states.push_back(NewState(NumStateElements(state.extent, slot.parameter->tensor().sizes()),
                                state.dtype.value_or(slot.master.scalar_type()), &none));
    }
  }
  return states;
}

void ZeroOptimizer::MakeSlotViews(Bucket& bucket) {
  for (Slot* slot : bucket.slots) {
    slot->bucket = &bucket;
    const FlatRange held = slot->place.Intersect(bucket.own);
    slot->part = held.empty() ? FlatRange{} : held.Minus(bucket.own.begin);
    slot->weight = Part(bucket.own_weights, slot->part);
    if (!bucket.masters.defined()) continue;  // frozen
    if (bucket.grads.defined()) {
      slot->parameter->main_grad = WholeView(bucket.grads, slot->place, *slot->parameter);
    }
    slot->grad = Part(bucket.own_grads, slot->part);
    slot->master = Part(bucket.masters, slot->part);
    slot->states = SlotStates(*slot);
    for (int shard = 0; shard < dp_.size(); ++shard) {
      const FlatRange cut = held.Intersect(bucket.layout.ShardOf(shard, dp_.size()));
      if (!cut.empty()) slot->cuts.push_back({cut.Minus(held.begin), shard});
    }
  }
}

double ZeroOptimizer::Padding() const {
  double all = 0, used = 0;
  for (const Bucket& bucket : buckets_) {
    all += static_cast<double>(bucket.layout.elements);
    for (const FlatRange& range : bucket.layout.ranges) used += static_cast<double>(range.size());
  }
  return used == 0 ? 1 : all / used;
}

void ZeroOptimizer::KeepFrozen(const Slots& slots) {
  if (shards_weights_) {
    frozen_buckets_ = MakeBuckets(slots);
    for (Bucket& bucket : frozen_buckets_) {
      MoveWeights(bucket);
      MakeSlotViews(bucket);
    }
    return;
  }
  for (const auto& slot : slots) {
    Parameter& parameter = *slot->parameter;
    const at::Tensor& tensor = parameter.tensor();
    if (tensor.is_meta()) {
      parameter.PointTo(at::empty(tensor.sizes(), tensor.options().device(context_.device())));
    }
    slot->held = {0, tensor.numel()};
    slot->weight = parameter.tensor().detach().reshape({-1});
  }
}

ZeroOptimizer::KeptBytes ZeroOptimizer::kept_bytes() const {
  KeptBytes kept;
  const auto bytes = [](const at::Tensor& tensor, const DiskTensor& on_disk = {}) {
    return on_disk.disk == nullptr && tensor.defined() ? static_cast<int64_t>(tensor.nbytes()) : 0;
  };
  for (const std::vector<Bucket>* buckets : {&buckets_, &frozen_buckets_}) {
    for (const Bucket& bucket : *buckets) {
      kept.weights += bucket.flat == nullptr
                          ? bytes(bucket.weights)
                          : bytes(bucket.own_weights, bucket.flat->own_on_disk());
    }
  }
  if (!shards_weights_) {
    for (const auto& slot : frozen_) kept.weights += bytes(slot->weight);
  }
  for (const Bucket& bucket : buckets_) {
    kept.gradients += bytes(shards_gradients_ ? bucket.own_grads : bucket.grads);
    if (bucket.has_masters()) kept.masters += bytes(bucket.masters, bucket.masters_on_disk);
    for (size_t i = 0; i < bucket.states.size(); ++i) {
      kept.states += bytes(bucket.states[i], bucket.states_on_disk[i]);
      // Those of rows and columns are each tensor's own, in no flat one.
      const RuleState::Extent extent = bucket.rule->states()[i].extent;
      if (extent != RuleState::Extent::kRow && extent != RuleState::Extent::kColumn) continue;
      for (const Slot* slot : bucket.slots) {
        if (!slot->states.empty()) kept.states += bytes(slot->states[i]);
      }
    }
  }
  return kept;
}

}  // namespace lathe
