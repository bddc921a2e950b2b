#include "lathe/peft/lora/lora_scale.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status_macros.h"

namespace lathe {
namespace {

template <typename T>
std::vector<std::string> Keys(const std::vector<std::pair<std::string, T>>& pattern) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : pattern) keys.push_back(key);
  return keys;
}

template <typename T>
T ValueOf(const std::vector<std::pair<std::string, T>>& pattern, const PatternKeys& keys,
          std::string_view module, T otherwise) {
  const std::optional<std::string> key = keys.Find(module);
  if (!key) return otherwise;
  return std::find_if(pattern.begin(), pattern.end(),
                      [&](const auto& entry) { return entry.first == *key; })
      ->second;
}

}  // namespace

absl::StatusOr<LoraScale> LoraScale::Create(const LoraConfig& config) {
  ABSL_ASSIGN_OR_RETURN(PatternKeys ranks,
                        PatternKeys::Create(Keys(config.rank_pattern), "rank_pattern"));
  ABSL_ASSIGN_OR_RETURN(PatternKeys alphas,
                        PatternKeys::Create(Keys(config.alpha_pattern), "alpha_pattern"));
  return LoraScale(config, std::move(ranks), std::move(alphas));
}

int64_t LoraScale::Rank(std::string_view module) const {
  return ValueOf(config_.rank_pattern, ranks_, module, config_.r);
}

double LoraScale::Scaling(std::string_view module) const {
  const double alpha = ValueOf(config_.alpha_pattern, alphas_, module, config_.alpha);
  const double rank = static_cast<double>(Rank(module));
  return alpha / (config_.use_rslora ? std::sqrt(rank) : rank);
}

}  // namespace lathe
