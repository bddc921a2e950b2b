// LoraScale: the rank and the scale that a module's LoRA has.
//
//   ABSL_ASSIGN_OR_RETURN(const LoraScale scale, LoraScale::Create(config));
//   scale.Scaling("model.layers.0.self_attn.q_proj")     // alpha / r, or alpha / sqrt(r)
//
// Immutable; thread-safe.
#ifndef LATHE_PEFT_LORA_LORA_SCALE_H_
#define LATHE_PEFT_LORA_LORA_SCALE_H_

#include <cstdint>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "lathe/peft/lora/lora_config.h"
#include "lathe/peft/module_matching.h"

namespace lathe {

class LoraScale {
 public:
  // Errors: PatternKeys' for rank_pattern and alpha_pattern.
  static absl::StatusOr<LoraScale> Create(const LoraConfig& config);

  int64_t Rank(std::string_view module) const;
  double Scaling(std::string_view module) const;

 private:
  LoraScale(LoraConfig config, PatternKeys ranks, PatternKeys alphas)
      : config_(std::move(config)), ranks_(std::move(ranks)), alphas_(std::move(alphas)) {}

  LoraConfig config_;
  PatternKeys ranks_, alphas_;
};

}  // namespace lathe

#endif  // LATHE_PEFT_LORA_LORA_SCALE_H_
