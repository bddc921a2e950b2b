// Adafactor: second moments of matrices by their rows and columns.
#ifndef LATHE_ZERO_ADAFACTOR_H_
#define LATHE_ZERO_ADAFACTOR_H_

#include <vector>

#include "lathe/zero/update_rule.h"

namespace lathe {

struct AdafactorOptions {
  double epsilon = 1e-30;       // added to squares
  double clip_threshold = 1.0;  // of an update's root mean square
  double decay_rate = -0.8;     // beta2 of update t is 1 - t^this
};

// Without first moment, with the learning rate as it is given: transformers' Adafactor with
// scale_parameter and relative_step false, as its Trainer makes it. Weight decay is decoupled.
// AdafactorMatrix is of parameters of at least two dims, AdafactorVector of others.
// Source: Shazeer and Stern, Adafactor (2018); transformers.optimization.Adafactor.
class AdafactorMatrix : public UpdateRule {
 public:
  explicit AdafactorMatrix(const AdafactorOptions& options) : options_(options) {}

  const std::vector<RuleState>& states() const override;
  Cuts cuts() const override { return Cuts::kNowhere; }
  void Update(const std::vector<UpdatePiece>& pieces, const UpdateStep& step) const override;

 private:
  const AdafactorOptions options_;
};

class AdafactorVector : public UpdateRule {
 public:
  explicit AdafactorVector(const AdafactorOptions& options) : options_(options) {}

  const std::vector<RuleState>& states() const override;
  Cuts cuts() const override { return Cuts::kNowhere; }  // the update's root mean square is of all
  void Update(const std::vector<UpdatePiece>& pieces, const UpdateStep& step) const override;

 private:
  const AdafactorOptions options_;
};

}  // namespace lathe

#endif  // LATHE_ZERO_ADAFACTOR_H_
