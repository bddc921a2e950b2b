// Lion: steps by the sign of an interpolated momentum.
#ifndef LATHE_ZERO_LION_H_
#define LATHE_ZERO_LION_H_

#include <vector>

#include "lathe/zero/update_rule.h"

namespace lathe {

struct LionOptions {
  double beta1 = 0.9;   // of the step
  double beta2 = 0.99;  // of the momentum
};

// Weight decay is decoupled. Source: Chen et al., Symbolic Discovery of Optimization Algorithms
// (2023), algorithm 2.
class Lion : public UpdateRule {
 public:
  explicit Lion(const LionOptions& options) : options_(options) {}

  const std::vector<RuleState>& states() const override;
  void Update(const std::vector<UpdatePiece>& pieces, const UpdateStep& step) const override;

 private:
  const LionOptions options_;
};

}  // namespace lathe

#endif  // LATHE_ZERO_LION_H_
