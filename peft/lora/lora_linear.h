// LoraLinear: y + (alpha / r) B A x, on a linear layer whose own weight stays as it is.
//
//   point.Add(std::make_unique<LoraLinear>(point, LoraOptions{.r = 8, .scaling = 2}));
//
// The parameters are called as in peft's models, base_model.model.MODULE.lora_A.default.weight
// [r, in] and lora_B [out, r]. Of a layer whose output features are split over tensor ranks, B is
// split with them and A is whole on all; of one whose input features are, the reverse. Then the
// layer's own collectives serve the adapter too, and A's or B's gradient is a part of a sum over
// the ranks.
//
// Dropout falls on x [batch, seq, in] before A, another draw for each layer
// (lathe/layers/dropout.h).
//
// Thread rule: that of the layer.
//
// Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1; peft
// 0.21.2 tuners/lora/layer.py.
#ifndef LATHE_PEFT_LORA_LORA_LINEAR_H_
#define LATHE_PEFT_LORA_LORA_LINEAR_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "lathe/layers/adapter_point.h"
#include "lathe/layers/dropout.h"
#include "lathe/layers/parameter.h"
#include "lathe/peft/lora/lora_config.h"

namespace lathe {

struct LoraOptions {
  int64_t r = 8;
  double scaling = 1;
  double dropout = 0;  // share of A's inputs that are dropped in training
  LoraInit init = LoraInit::kKaiming;
};

class LoraLinear : public LayerAdapter {
 public:
  // Parameters of the dtype and device of the layer's weight, without values where that has none.
  // `point` need not outlive it.
  LoraLinear(AdapterPoint& point, const LoraOptions& options);

  at::Tensor OnPartial(const at::Tensor& x, const at::Tensor& y) override;
  std::vector<Parameter*> parameters() override { return {&a_, &b_}; }

 private:
  Parameter a_;  // [r, in]
  Parameter b_;  // [out, r]
  // What A's inputs x are multiplied by; undefined outside of training.
  at::Tensor InputScale(const std::optional<DropoutKey>& key, const at::Tensor& x) const;

  const double scaling_;
  const double dropout_;
};

}  // namespace lathe

#endif  // LATHE_PEFT_LORA_LORA_LINEAR_H_
