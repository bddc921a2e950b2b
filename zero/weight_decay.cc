#include "lathe/zero/weight_decay.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"

namespace lathe {

bool HasWeightDecay(std::string_view parameter_name) {
  const std::string name = absl::AsciiStrToLower(parameter_name);
  for (const char* part : {"bias", "layernorm", "rmsnorm"}) {
    if (absl::StrContains(name, part)) return false;
  }
  for (const std::string_view component : absl::StrSplit(name, '.')) {
    if (component == "norm" || absl::EndsWith(component, "_norm")) return false;
  }
  return true;
}

}  // namespace lathe
