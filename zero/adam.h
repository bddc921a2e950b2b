// Adam and AdamW.
#ifndef LATHE_ZERO_ADAM_H_
#define LATHE_ZERO_ADAM_H_

#include <vector>

#include "lathe/zero/update_rule.h"

namespace lathe {

struct AdamOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
};

// Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization (2019); torch.optim.AdamW.
class AdamW : public UpdateRule {
 public:
  explicit AdamW(const AdamOptions& options) : options_(options) {}

  const std::vector<RuleState>& states() const override;
  void Update(const std::vector<UpdatePiece>& pieces, const UpdateStep& step) const override;

 private:
  const AdamOptions options_;
};

// Weight decay is added to the gradient, so that the moments have it too.
// Source: Kingma and Ba, Adam (2014); torch.optim.Adam.
class Adam : public UpdateRule {
 public:
  explicit Adam(const AdamOptions& options) : options_(options) {}

  const std::vector<RuleState>& states() const override;
  void Update(const std::vector<UpdatePiece>& pieces, const UpdateStep& step) const override;

 private:
  const AdamOptions options_;
};

}  // namespace lathe

#endif  // LATHE_ZERO_ADAM_H_
