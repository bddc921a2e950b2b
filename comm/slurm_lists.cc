#include "lathe/comm/slurm_lists.h"

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace lathe {

absl::StatusOr<std::string> FirstSlurmNode(std::string_view node_list) {
  const auto error = [&] {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", node_list, "' is no list of nodes; expected, say, 'node[01-03,7],login'"));
  };
  std::string name;
  bool in_bracket = false, taken = false;  // `taken`: this bracket's first number is complete
  for (const char c : node_list) {
    if (c == '[') {
      if (in_bracket) return error();
      in_bracket = true;
      taken = false;
    } else if (c == ']') {
      if (!in_bracket || name.empty() || !absl::ascii_isdigit(name.back())) return error();
      in_bracket = false;
    } else if (in_bracket) {
      taken = taken || c == '-' || c == ',';
      if (!taken) name += c;
    } else if (c == ',') {
      break;
    } else {
      name += c;
    }
  }
  if (in_bracket || name.empty()) return error();
  return name;
}

absl::StatusOr<int> SlurmCountOfNode(std::string_view counts, int node) {
  int first = 0;  // of the nodes that a part is about
  for (const std::string_view part : absl::StrSplit(counts, ',')) {
    const size_t bracket = part.find("(x");
    int count = 0, repeats = 1;
    bool fits = absl::SimpleAtoi(part.substr(0, bracket), &count);
    if (bracket != std::string_view::npos) {
      std::string_view times = part.substr(bracket + 2);
      fits = fits && absl::ConsumeSuffix(&times, ")") && absl::SimpleAtoi(times, &repeats);
    }
    if (!fits || count < 1 || repeats < 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", counts, "' are no counts by node; expected, say, '4(x2),3'"));
    }
    if (node < first + repeats) return count;
    first += repeats;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("'", counts, "' has no count for node number ", node));
}

}  // namespace lathe
