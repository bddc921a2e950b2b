#ifndef LATHE_DATASETS_SAMPLER_H_
#define LATHE_DATASETS_SAMPLER_H_

// The order in which an epoch visits the samples, a function of (strategy, n, seed, epoch) alone.
//
//   std::vector<int64_t> order = EpochOrder(SamplingStrategy::kRandom, n, /*seed=*/42, epoch);

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace lathe {

enum class SamplingStrategy {
  kRandom,      // A new permutation in each epoch.
  kSequential,  // As the data set has them.
};

// "random" or "sequential", the words of --train_sampling_strategy.
// Errors: InvalidArgument for any other word.
absl::StatusOr<SamplingStrategy> ParseSamplingStrategy(std::string_view word);

// The indices [0, n) in the order of this epoch, which counts from 0. kRandom is the permutation of
// Hugging Face's Trainer: torch.randperm(n) of a CPU generator seeded with seed + epoch, where seed
// is --data_seed, or --seed without it (accelerate/data_loader.py, SeedableRandomSampler). Draws
// from a generator of its own; any thread.
std::vector<int64_t> EpochOrder(SamplingStrategy strategy, int64_t n, uint64_t seed, int64_t epoch);

}  // namespace lathe

#endif  // LATHE_DATASETS_SAMPLER_H_
