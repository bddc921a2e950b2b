// RuleSet: an optimizer, as a name and the rule by which it changes each parameter.
//
//   ZeroOptimizer optimizer(parameters, {.rules = LionRules({.beta1 = 0.9, .beta2 = 0.99})},
//                           context);
//
// A value; copies share the rules. docs/optimizers.md describes each.
#ifndef LATHE_ZERO_RULE_SET_H_
#define LATHE_ZERO_RULE_SET_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "lathe/layers/parameter.h"
#include "lathe/zero/adafactor.h"
#include "lathe/zero/adam.h"
#include "lathe/zero/lion.h"
#include "lathe/zero/muon.h"
#include "lathe/zero/sgd.h"
#include "lathe/zero/update_rule.h"

namespace lathe {

struct RuleSet {
  std::string name;  // as checkpoints have it: one goes on only under the optimizer of its name
  std::shared_ptr<const UpdateRule> rule;            // of all parameters,
  std::shared_ptr<const UpdateRule> rest = nullptr;  // if not null, but for those that not
  std::function<bool(const Parameter&)> covers = nullptr;

  const UpdateRule& Of(const Parameter& parameter) const {
    return rest == nullptr || covers(parameter) ? *rule : *rest;
  }
  // All of them.
  std::vector<const UpdateRule*> Rules() const;
  // Whether there is one for which parameters must not be cut at any multiple of 32 elements: then
  // every rank must hold whole parameters' gradients (no tensor-parallel slices), and states cannot
  // be on a disk.
  bool RestrictsCuts() const;
};

RuleSet AdamWRules(const AdamOptions& options);
RuleSet AdamRules(const AdamOptions& options);
RuleSet SgdRules(const SgdOptions& options);
RuleSet LionRules(const LionOptions& options);
// Hidden layers' matrices by Muon; embeddings, the head, and whatever is no matrix, by AdamW.
RuleSet MuonRules(const MuonOptions& options, const AdamOptions& adam);
RuleSet AdafactorRules(const AdafactorOptions& options);
// States in bfloat16, of optimizers that step each element by itself. The name stays: states go on
// in either type.
RuleSet WithBf16States(RuleSet rules);
// States in 8 bits, likewise, but of embeddings and of parameters of less than 4096 elements, as
// bitsandbytes has it.
RuleSet WithEightBitStates(RuleSet rules);

// The token and position tables, and the matrix behind the last block, by their names.
bool IsEmbedding(const Parameter& parameter);
bool IsHead(const Parameter& parameter);

}  // namespace lathe

#endif  // LATHE_ZERO_RULE_SET_H_
