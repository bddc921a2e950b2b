#include "lathe/zero/flat_layout.h"

#include <algorithm>

namespace lathe {
namespace {

// 64 bytes of the smallest type: products and updates start at a cache line.
constexpr int64_t kAlignment = 32;

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

FlatRange FlatRange::Intersect(const FlatRange& other) const {
  const FlatRange both{std::max(begin, other.begin), std::min(end, other.end)};
  return both.empty() ? FlatRange{both.begin, both.begin} : both;
}

FlatRange FlatBucket::ShardOf(int rank, int num_ranks) const {
  const int64_t size = elements / num_ranks;
  return {rank * size, (rank + 1) * size};
}

std::vector<FlatBucket> LayOutFlat(absl::Span<const FlatItem> items, int64_t bucket_elements,
                                   int num_ranks) {
  std::vector<FlatBucket> buckets;
  bool open = false;  // the last bucket takes more
  for (size_t i = 0; i < items.size(); ++i) {
    const FlatItem& item = items[i];
    if (open) {
      const FlatBucket& last = buckets.back();
      const FlatItem& before = items[last.items.back()];
      open = !item.alone && before.kind == item.kind && before.unit == item.unit &&
             last.elements + item.elements <= bucket_elements;
    }
    if (!open) buckets.emplace_back();
    FlatBucket& bucket = buckets.back();
    bucket.items.push_back(static_cast<int>(i));
    bucket.ranges.push_back({bucket.elements, bucket.elements + item.elements});
    bucket.elements = RoundUp(bucket.elements + item.elements, kAlignment);
    open = !item.alone;
  }
  for (FlatBucket& bucket : buckets) {
    bucket.elements = RoundUp(bucket.elements, kAlignment * num_ranks);
  }
  return buckets;
}

}  // namespace lathe
