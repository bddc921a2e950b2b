// A rule whose states are kept in 8 bits an element, and a scale for each block: a quarter of the
// memory.
//
//   EightBitStates rule(std::make_shared<AdamW>(AdamOptions()));
#ifndef LATHE_ZERO_EIGHT_BIT_STATES_H_
#define LATHE_ZERO_EIGHT_BIT_STATES_H_

#include <memory>
#include <vector>

#include "ATen/core/Tensor.h"
#include "lathe/zero/update_rule.h"

namespace lathe {

// Steps as `rule` does, in its precision, with states that are read from, and afterwards rounded
// to, 8 bits: per element a code, per kStateBlock elements of the parameter their largest
// magnitude, by which a code's value is multiplied. Values are those of bitsandbytes' dynamic map:
// from 1 down to 10^-7, dense in proportion; of the second moments, which are not negative, by the
// map without signs. `rule` must have states by element only, and cut anywhere.
//
// Checkpoints have PARAMETER.STATE_8bit and PARAMETER.STATE_absmax, as they are in memory.
//
// Source: Dettmers et al., 8-bit Optimizers via Block-wise Quantization (2021); bitsandbytes.
class EightBitStates : public UpdateRule {
 public:
  explicit EightBitStates(std::shared_ptr<const UpdateRule> rule);

  const std::vector<RuleState>& states() const override { return states_; }
  Cuts cuts() const override { return Cuts::kBlocks; }
  void Update(const std::vector<UpdatePiece>& pieces, const UpdateStep& step) const override;

 private:
  const std::shared_ptr<const UpdateRule> rule_;
  std::vector<RuleState> states_;  // codes and scales, in turn
};

// The 256 values of codes, ascending, in fp32, on the CPU.
at::Tensor DynamicMap(bool is_signed);

// Values of [n] as codes, [n] in uint8, and scales, [ceil(n / kStateBlock)] in fp32; and back, in
// `dtype`.
void QuantizeBlocks(const at::Tensor& values, bool is_signed, const at::Tensor& codes,
                    const at::Tensor& scales);
at::Tensor DequantizeBlocks(const at::Tensor& codes, const at::Tensor& scales, bool is_signed,
                            at::ScalarType dtype);

}  // namespace lathe

#endif  // LATHE_ZERO_EIGHT_BIT_STATES_H_
