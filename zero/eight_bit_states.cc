#include "lathe/zero/eight_bit_states.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "ATen/ops/bucketize.h"
#include "ATen/ops/constant_pad_nd.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/linalg_vector_norm.h"
#include "ATen/ops/linspace.h"
#include "ATen/ops/tensor.h"

namespace lathe {
namespace {

// A map's values on a device, and between which of them a value is nearer to which.
struct Map {
  at::Tensor values, midpoints;  // [256], [255]
};

const Map& MapOn(c10::Device device, bool is_signed) {
  static auto& mutex = *new std::mutex();
  static auto& maps = *new std::map<std::pair<std::string, bool>, Map>();
  std::lock_guard<std::mutex> lock(mutex);
  const auto [found, is_new] = maps.try_emplace({device.str(), is_signed});
  if (is_new) {
    const at::Tensor values = DynamicMap(is_signed);
    const at::Tensor midpoints = values.narrow(0, 1, 255).add(values.narrow(0, 0, 255)).div_(2);
    found->second = {values.to(device), midpoints.to(device)};
  }
  return found->second;
}

bool IsSigned(const RuleState& state) { return state.name != "exp_avg_sq"; }

// [blocks, kStateBlock]; zeros where the last block is not full.
at::Tensor AsBlocks(const at::Tensor& values) {
  const int64_t missing = -values.numel() & (kStateBlock - 1);
  const at::Tensor full = missing == 0 ? values : at::constant_pad_nd(values, {0, missing}, 0);
  return full.view({-1, kStateBlock});
}

// The meta device, on which memory is rehearsed, lacks bucketize and index_select.
at::Tensor NearestCodes(const at::Tensor& relative, const Map& map) {
  if (relative.is_meta()) return at::empty(relative.sizes(), relative.options().dtype(at::kInt));
  return at::bucketize(relative, map.midpoints.to(relative.scalar_type()), /*out_int32=*/true);
}

at::Tensor ValuesOf(const at::Tensor& codes, const Map& map, at::ScalarType dtype) {
  if (codes.is_meta()) return at::empty(codes.sizes(), codes.options().dtype(dtype));
  return map.values.to(dtype).index_select(0, codes);
}

}  // namespace

at::Tensor DynamicMap(bool is_signed) {
  // As bitsandbytes.functional.create_dynamic_map, operation by operation, so that not a bit
  // differs: seven decades, each with twice the values of the one below it.
  std::vector<float> values = {0.0F, 1.0F};
  for (int decade = 0; decade < 7; ++decade) {
    const int64_t bounds = (int64_t{1} << (is_signed ? decade : decade + 1)) + 1;
    // presubmit: allow the map is fp32
    const at::Tensor edges = at::linspace(0.1, 1, bounds, at::kFloat);
    const at::Tensor means = edges.narrow(0, 0, bounds - 1)
                                 .add(edges.narrow(0, 1, bounds - 1))
                                 .div_(2.0)
                                 .mul_(std::pow(10.0, decade - 6));
    for (int64_t i = 0; i < means.numel(); ++i) {
      const auto value = means[i].item<float>();
      values.push_back(value);
      if (is_signed) values.push_back(-value);
    }
  }
  std::sort(values.begin(), values.end());
  return at::tensor(values);
}

void QuantizeBlocks(const at::Tensor& values, bool is_signed, const at::Tensor& codes,
                    const at::Tensor& scales) {
  const at::Tensor blocks = AsBlocks(values);
  // The largest magnitude.
  scales.copy_(at::linalg_vector_norm(blocks, std::numeric_limits<double>::infinity(), 1));
  // A block of zeros, or of what fp32 cannot hold, is zeros.
  const at::Tensor divisors = scales.masked_fill(scales.eq(0), 1).to(values.scalar_type());
  const at::Tensor relative = blocks.div(divisors.unsqueeze(1));
  const Map& map = MapOn(values.device(), is_signed);
  codes.copy_(NearestCodes(relative, map).view({-1}).narrow(0, 0, codes.numel()));
}

at::Tensor DequantizeBlocks(const at::Tensor& codes, const at::Tensor& scales, bool is_signed,
                            at::ScalarType dtype) {
  const Map& map = MapOn(codes.device(), is_signed);
  const at::Tensor values = ValuesOf(AsBlocks(codes).view({-1}).to(at::kInt), map, dtype);
  values.view({-1, kStateBlock}).mul_(scales.unsqueeze(1));
  return values.narrow(0, 0, codes.numel());
}

EightBitStates::EightBitStates(std::shared_ptr<const UpdateRule> rule) : rule_(std::move(rule)) {
  for (const RuleState& state : rule_->states()) {
    states_.push_back({.name = state.name + "_8bit", .dtype = at::kByte});
    states_.push_back({.name = state.name + "_absmax",
                       .extent = RuleState::Extent::kBlock,
                       .dtype = at::kFloat});  // presubmit: allow scales are fp32 by the format
  }
}

void EightBitStates::Update(const std::vector<UpdatePiece>& pieces, const UpdateStep& step) const {
  UpdateStep inner = step;
  inner.grad_factor = 1;
  const std::vector<RuleState>& names = rule_->states();
  for (const UpdatePiece& piece : pieces) {
    ForEachPart(piece, step, states_, [&](UpdatePiece& part) {
      const std::vector<at::Tensor> kept = std::exchange(part.states, {});
      for (size_t i = 0; i < names.size(); ++i) {
        part.states.push_back(DequantizeBlocks(kept[2 * i], kept[2 * i + 1], IsSigned(names[i]),
                                               part.weight.scalar_type()));
      }
      rule_->Update({part}, inner);
      for (size_t i = 0; i < names.size(); ++i) {
        QuantizeBlocks(part.states[i], IsSigned(names[i]), kept[2 * i], kept[2 * i + 1]);
      }
    });
  }
}

}  // namespace lathe
