#include "lathe/datasets/sampler.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/randperm.h>

#include <cstdint>
#include <numeric>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lathe {

absl::StatusOr<SamplingStrategy> ParseSamplingStrategy(std::string_view word) {
  if (word == "random") return SamplingStrategy::kRandom;
  if (word == "sequential") return SamplingStrategy::kSequential;
  return absl::InvalidArgumentError(
      absl::StrCat("--train_sampling_strategy is \"", word, "\"; random and sequential are known"));
}

std::vector<int64_t> EpochOrder(SamplingStrategy strategy, int64_t n, uint64_t seed,
                                int64_t epoch) {
  std::vector<int64_t> order(n);
  if (strategy == SamplingStrategy::kSequential) {
    std::iota(order.begin(), order.end(), 0);
    return order;
  }
  at::Generator generator = at::detail::createCPUGenerator(seed + static_cast<uint64_t>(epoch));
  const at::Tensor permutation = at::randperm(n, generator, at::TensorOptions(at::kLong));
  const int64_t* data = permutation.const_data_ptr<int64_t>();
  order.assign(data, data + n);
  return order;
}

}  // namespace lathe
