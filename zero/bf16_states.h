// A rule whose states are kept in bfloat16: half the memory.
//
//   Bf16States rule(std::make_shared<AdamW>(AdamOptions()));
#ifndef LATHE_ZERO_BF16_STATES_H_
#define LATHE_ZERO_BF16_STATES_H_

#include <memory>
#include <vector>

#include "lathe/zero/update_rule.h"

namespace lathe {

// Steps as `rule` does, in its precision, and rounds the states afterwards: up or down at random,
// so that an average of small changes, each below bfloat16's resolution, is what theirs is (rounded
// to the nearest, a second moment would never fall). The choice is keyed by update, state and
// element: layouts agree, and a run can be repeated. `rule` must have states by element only, and
// cut anywhere.
class Bf16States : public UpdateRule {
 public:
  explicit Bf16States(std::shared_ptr<const UpdateRule> rule);

  const std::vector<RuleState>& states() const override { return states_; }
  void Update(const std::vector<UpdatePiece>& pieces, const UpdateStep& step) const override;

 private:
  const std::shared_ptr<const UpdateRule> rule_;
  std::vector<RuleState> states_;
};

}  // namespace lathe

#endif  // LATHE_ZERO_BF16_STATES_H_
