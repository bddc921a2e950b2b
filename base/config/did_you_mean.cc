#include "lathe/base/config/did_you_mean.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace lathe {

int EditDistance(std::string_view a, std::string_view b) {
  // Three rows of the table d[i][j] = distance of the first i letters of a to the first j of b.
  std::vector<int> two_above(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    std::swap(two_above, above);
    std::swap(above, row);
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int substitution = above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, substitution});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], two_above[j - 2] + 1);
      }
    }
  }
  return row[b.size()];
}

std::vector<std::string> NearestNames(std::string_view word,
                                      const std::vector<std::string>& names) {
  constexpr size_t kShortestPart = 4;  // shorter words are part of too many names
  constexpr size_t kMost = 3;
  const int limit = std::max(1, static_cast<int>(word.size()) / 3);
  std::vector<std::pair<int, std::string>> ranked;
  for (const std::string& name : names) {
    const int distance = EditDistance(word, name);
    if (distance <= limit) {
      ranked.push_back({distance, name});
    } else if (word.size() >= kShortestPart && absl::StrContains(name, word)) {
      ranked.push_back({limit + distance, name});
    }
  }
  std::sort(ranked.begin(), ranked.end());
  // A clear winner stands alone: names that are twice as far, or merely contain the word, are
  // noise.
  std::vector<std::string> nearest;
  for (const auto& [distance, name] : ranked) {
    if (nearest.size() == kMost || (ranked.front().first <= limit && distance > limit) ||
        distance > 2 * std::max(1, ranked.front().first)) {
      break;
    }
    nearest.push_back(name);
  }
  return nearest;
}

std::string DidYouMean(std::string_view word, const std::vector<std::string>& names,
                       std::string_view prefix) {
  const std::vector<std::string> nearest = NearestNames(word, names);
  if (nearest.empty()) return "";
  return absl::StrCat(" (did you mean ", prefix,
                      absl::StrJoin(nearest, absl::StrCat(" or ", prefix)), "?)");
}

}  // namespace lathe
