// UnitRunner: ZeRO stage 3 as a BlockRunner. It gathers a block's unit before the block's forward
// and before its backward, and lets it go after each.
//
//   ZeroUnits units({});
//   PlainRunner plain;
//   RecomputeRunner recompute(plain);
//   // Outermost: a recomputed forward needs no second gather.
//   UnitRunner runner(units, recompute);
//
// Thread rule: as BlockRunner.
#ifndef LATHE_ZERO_UNIT_RUNNER_H_
#define LATHE_ZERO_UNIT_RUNNER_H_

#include <vector>

#include "lathe/layers/block_runner.h"
#include "lathe/zero/zero_units.h"

namespace lathe {

class UnitRunner : public BlockRunner {
 public:
  // Both must outlive the runner and the graphs that it records.
  UnitRunner(ZeroUnits& units, BlockRunner& inner) : units_(units), inner_(inner) {}

  TensorList Run(int block, const std::vector<Parameter*>& parameters, const TensorList& inputs,
                 const BlockFunction& fn) override;
  TensorList RunForwardOnly(const std::vector<Parameter*>& parameters, const TensorList& inputs,
                            const BlockFunction& fn) override;

 private:
  std::vector<int> Acquire(const std::vector<Parameter*>& parameters);
  void Release(const std::vector<int>& units);

  ZeroUnits& units_;
  BlockRunner& inner_;
};

}  // namespace lathe

#endif  // LATHE_ZERO_UNIT_RUNNER_H_
