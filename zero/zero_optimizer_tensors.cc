// ZeroOptimizer's tensors by their logical names: filling them, and what a checkpoint holds.
#include <utility>

#include "ATen/core/grad_mode.h"
#include "ATen/ops/empty.h"
#include "c10/util/Exception.h"
#include "lathe/zero/zero_optimizer.h"
#include "lathe/zero/zero_optimizer_parts.h"

namespace lathe {
namespace {

// Where the piece lies in the flattened local tensor.
FlatRange PlaceOf(const Parameter& parameter, const ShardPiece& piece) {
  const at::IntArrayRef local = parameter.tensor().sizes();
  int64_t row = 1;  // elements below one index of dim 0
  for (size_t dim = 1; dim < local.size(); ++dim) {
    TORCH_CHECK(piece.logical.length[dim] == local[dim], parameter.name(),
                ": a piece that is not contiguous in the local tensor cannot be sharded");
    row *= local[dim];
  }
  const int64_t begin = piece.local_offset[0] * row;
  return {begin, begin + piece.logical.length[0] * row};
}

}  // namespace

NamedTensor ZeroOptimizer::Named(const Slot& slot, const std::string& suffix,
                                 const at::Tensor& values, at::ScalarType file_dtype) const {
  const Parameter& parameter = *slot.parameter;
  NamedTensor tensor{.name = parameter.name() + suffix,
                     .full_shape = parameter.full_shape(),
                     .file_dtype = file_dtype,
                     .replica = parameter.shard().replica,
                     .pieces = {}};
  // Where all hold all, data-parallel ranks other than 0 hold copies.
  const bool is_sharded = parameter.trainable() ? shards_states_ : shards_weights_;
  if (!is_sharded && dp_.rank() > 0) tensor.replica += context_.world_size();
  if (!values.defined()) return tensor;
  for (const ShardPiece& piece : parameter.shard().pieces) {
    const FlatRange place = PlaceOf(parameter, piece);
    const FlatRange both = place.Intersect(slot.held);
    if (both.empty()) continue;
    const FlatRange in_piece = both.Minus(place.begin);
    for (TensorPiece& part :
         PiecesOfRange(piece.logical, in_piece.begin, in_piece.end,
                       values.narrow(0, both.begin - slot.held.begin, both.size()))) {
      tensor.pieces.push_back(std::move(part));
    }
  }
  return tensor;
}

NamedTensor ZeroOptimizer::NamedState(const Slot& slot, size_t i) const {
  const RuleState& state = slot.rule->states()[i];
  const std::string suffix = "." + state.name;
  const at::ScalarType type = state.dtype.value_or(slot.master.scalar_type());
  const at::Tensor values = slot.held.empty() ? at::Tensor() : slot.states[i];
  if (state.extent == RuleState::Extent::kElement) return Named(slot, suffix, values, type);
  // Of a whole parameter, not of a tensor-parallel slice (CheckCuts).
  NamedTensor tensor = Named(slot, suffix, at::Tensor(), type);
  std::vector<int64_t>& shape = tensor.full_shape;
  Box box;
  if (state.extent == RuleState::Extent::kBlock) {
    shape = {BlocksOf({0, slot.parameter->tensor().numel()}).end};
    const FlatRange blocks = BlocksOf(slot.held);
    box = {{blocks.begin}, {blocks.size()}};
  } else {
    shape.erase(shape.end() - (state.extent == RuleState::Extent::kRow ? 1 : 2));
    box = Box::Whole(shape);
  }
  if (!slot.held.empty()) tensor.pieces.push_back({box, values.view(box.length)});
  return tensor;
}

std::vector<NamedTensor> ZeroOptimizer::Weights(at::ScalarType weights_dtype) const {
  std::vector<NamedTensor> tensors;
  for (auto it = slots_.rbegin(); it != slots_.rend(); ++it) {
    tensors.push_back(Named(**it, "", (*it)->master, weights_dtype));
  }
  for (auto it = frozen_.rbegin(); it != frozen_.rend(); ++it) {
    tensors.push_back(Named(**it, "", (*it)->weight, weights_dtype));
  }
  return tensors;
}

std::vector<NamedTensor> ZeroOptimizer::States() const {
  std::vector<NamedTensor> tensors;
  for (auto it = slots_.rbegin(); it != slots_.rend(); ++it) {
    const Slot& slot = **it;
    const at::ScalarType type = slot.master.scalar_type();
    for (size_t i = 0; i < slot.rule->states().size(); ++i) {
      tensors.push_back(NamedState(slot, i));
    }
    if (type != slot.parameter->tensor().scalar_type()) {
      tensors.push_back(Named(slot, ".master", slot.master, type));
    }
  }
  tensors.push_back({.name = "step",
                     .full_shape = {1},
                     .file_dtype = step_.scalar_type(),
                     .replica = context_.rank(),
                     .pieces = {{Box::Whole({1}), step_}}});
  return tensors;
}

std::vector<NamedTensor> ZeroOptimizer::Gradients() const {
  std::vector<NamedTensor> tensors;
  for (auto it = slots_.rbegin(); it != slots_.rend(); ++it) {
    tensors.push_back(Named(**it, "", (*it)->grad, (*it)->grad.scalar_type()));
  }
  return tensors;
}

void ZeroOptimizer::FillMasters(const std::function<void(Parameter&, const at::Tensor&)>& fn,
                                const std::function<bool(const Parameter&)>& which) {
  at::NoGradGuard no_grad;
  for (const Slots* slots : {&slots_, &frozen_}) {
    for (const auto& slot : *slots) {
      Parameter& parameter = *slot->parameter;
      if (which && !which(parameter)) continue;
      const at::Tensor& weight = parameter.tensor();
      const at::Tensor& kept = slot->master.defined() ? slot->master : slot->weight;
      // Straight into the weights where they are whole and there is nothing else.
      const bool has_masters = slot->master.defined() && slot->bucket->has_masters();
      if (!shards_weights_ && !has_masters) {
        fn(parameter, weight.detach());
        continue;
      }
      const at::Tensor whole = at::empty(weight.sizes(), kept.options());
      fn(parameter, whole);
      kept.copy_(whole.view({-1}).narrow(0, slot->held.begin, slot->held.size()));
      if (!shards_weights_) weight.detach().copy_(whole);
    }
  }
}

void ZeroOptimizer::AfterLoad() {
  at::NoGradGuard no_grad;
  for (Bucket& bucket : buckets_) RoundMasters(bucket);
  GatherWeights();
}

}  // namespace lathe
