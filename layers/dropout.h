// Keyed dropout: which elements fall out is a function of (seed, the layer's name, the sample, the
// token, the feature), so that it is the same on every layout of ranks, in a recomputed forward,
// and after a restart.
//
//   const DropoutScope scope(key);                   // the model, around a block
//   if (const DropoutKey* key = DropoutScope::Current()) {
//     x = at::mul(x, DropoutScale(*key, "layers.0.q_proj", 0.1, seq, {0, 64, 64}, x.options()));
//   }
//
// Drawn on the CPU, whatever the device.
//
// Thread rule: a scope holds for the thread that made it.
#ifndef LATHE_LAYERS_DROPOUT_H_
#define LATHE_LAYERS_DROPOUT_H_

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "ATen/core/Tensor.h"

namespace lathe {

struct DropoutKey {
  uint64_t seed = 0;
  // Of each row of the batch: a number of its own among all samples of the training.
  std::vector<int64_t> samples;
};

// Makes the key known to layers that this thread runs, until the scope ends; none: nothing is
// dropped, as in an evaluation.
class DropoutScope {
 public:
  explicit DropoutScope(const std::optional<DropoutKey>& key);
  ~DropoutScope();
  DropoutScope(const DropoutScope&) = delete;

  static const DropoutKey* Current();

 private:
  const DropoutKey* outer_;
};

// The features that this rank has, of all.
struct FeatureRange {
  int64_t first = 0, count = 0, all = 0;
};

// [batch, seq_len, features.count]: 0 with probability p, else 1 / (1 - p).
at::Tensor DropoutScale(const DropoutKey& key, std::string_view name, double p, int64_t seq_len,
                        const FeatureRange& features, const at::TensorOptions& options);

}  // namespace lathe

#endif  // LATHE_LAYERS_DROPOUT_H_
