// Optimizers by Hugging Face's names.
//
//   ABSL_ASSIGN_OR_RETURN(RuleSet rules, RulesByName("sgd", "momentum=0.9", adam));
#ifndef LATHE_ZERO_OPTIM_BY_NAME_H_
#define LATHE_ZERO_OPTIM_BY_NAME_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "lathe/zero/adam.h"
#include "lathe/zero/rule_set.h"

namespace lathe {

// `optim` and `optim_args` as the flags have them: "KEY=VALUE,KEY=VALUE". `adam`: of the flags
// --adam_beta1 and so on, for whatever takes them. docs/optimizers.md lists names, keys and
// defaults.
// Errors: InvalidArgument for a key that the optimizer does not have, with those that it has, and
// for a value that is not what the key wants.
absl::StatusOr<RuleSet> RulesByName(std::string_view optim, std::string_view optim_args,
                                    const AdamOptions& adam);

}  // namespace lathe

#endif  // LATHE_ZERO_OPTIM_BY_NAME_H_
