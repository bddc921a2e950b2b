// Stochastic gradient descent, with or without momentum.
#ifndef LATHE_ZERO_SGD_H_
#define LATHE_ZERO_SGD_H_

#include <vector>

#include "lathe/zero/update_rule.h"

namespace lathe {

struct SgdOptions {
  double momentum = 0;   // 0: no state
  double dampening = 0;  // of gradients on their way into the momentum, but for the first
  bool nesterov = false;
};

// Weight decay is added to the gradient. Source: torch.optim.SGD.
class Sgd : public UpdateRule {
 public:
  explicit Sgd(const SgdOptions& options) : options_(options) {}

  const std::vector<RuleState>& states() const override;
  void Update(const std::vector<UpdatePiece>& pieces, const UpdateStep& step) const override;

 private:
  const SgdOptions options_;
};

}  // namespace lathe

#endif  // LATHE_ZERO_SGD_H_
