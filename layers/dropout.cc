#include "lathe/layers/dropout.h"

#include "ATen/Parallel.h"
#include "ATen/ops/empty.h"
#include "absl/types/span.h"
#include "lathe/base/random.h"

namespace lathe {
namespace {

thread_local const DropoutKey* current = nullptr;

}  // namespace

DropoutScope::DropoutScope(const std::optional<DropoutKey>& key) : outer_(current) {
  current = key ? &*key : nullptr;
}

DropoutScope::~DropoutScope() { current = outer_; }

const DropoutKey* DropoutScope::Current() { return current; }

at::Tensor DropoutScale(const DropoutKey& key, std::string_view name, double p, int64_t seq_len,
                        const FeatureRange& features, const at::TensorOptions& options) {
  const auto rows = static_cast<int64_t>(key.samples.size());
  const uint64_t layer = StreamHash(kStreamHashStart, name);
  at::Tensor kept = at::empty({rows, seq_len, features.count}, at::kByte);
  uint8_t* const out = kept.mutable_data_ptr<uint8_t>();
  constexpr int64_t kTokensPerTask = 16;
  at::parallel_for(0, rows * seq_len, kTokensPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const KeyedStream stream(key.seed, "dropout",
                               {layer, static_cast<uint64_t>(key.samples[i / seq_len])});
      stream.FillBernoulli(1 - p, (i % seq_len) * features.all + features.first,
                           absl::MakeSpan(out + i * features.count, features.count));
    }
  });
  return kept.to(options.device()).to(options.dtype()).mul_(1 / (1 - p));
}

}  // namespace lathe
