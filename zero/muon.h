// Muon: steps of matrices along their momentum, made nearly orthogonal.
#ifndef LATHE_ZERO_MUON_H_
#define LATHE_ZERO_MUON_H_

#include <vector>

#include "ATen/core/Tensor.h"
#include "lathe/zero/update_rule.h"

namespace lathe {

struct MuonOptions {
  double momentum = 0.95;
  bool nesterov = true;
  int newton_schulz_steps = 5;
  // What the learning rate of a [rows, columns] matrix is multiplied by.
  enum class Rate {
    kOriginal,       // sqrt(max(1, rows / columns)), Jordan's
    kMatchRmsAdamW,  // 0.2 sqrt(max(rows, columns)), Moonshot's: a step as large as AdamW's is
  };
  Rate rate = Rate::kOriginal;
};

// Of matrices. Weight decay is decoupled. As torch.optim.Muon does, the orthogonalisation runs in
// bfloat16, but in fp64 where the weights are.
// Source: Jordan et al., Muon (2024); torch.optim.Muon.
class Muon : public UpdateRule {
 public:
  explicit Muon(const MuonOptions& options) : options_(options) {}

  const std::vector<RuleState>& states() const override;
  Cuts cuts() const override { return Cuts::kNowhere; }
  void Update(const std::vector<UpdatePiece>& pieces, const UpdateStep& step) const override;

 private:
  void UpdateMatrix(const UpdatePiece& piece, const UpdateStep& step) const;

  const MuonOptions options_;
};

}  // namespace lathe

#endif  // LATHE_ZERO_MUON_H_
