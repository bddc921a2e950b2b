#include "lathe/zero/flat_layout.h"

#include <algorithm>
#include <numeric>

namespace lathe {
namespace {

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Gives every item of a bucket a shard.
void PlaceWhole(absl::Span<const FlatItem> items, int num_ranks, FlatBucket* bucket) {
  std::vector<size_t> order(bucket->items.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto elements = [&](size_t i) { return items[bucket->items[i]].elements; };
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return elements(a) > elements(b); });
  std::vector<int64_t> filled(num_ranks, 0);
  std::vector<int> shard(order.size());
  for (const size_t i : order) {
    const auto least = std::min_element(filled.begin(), filled.end());
    shard[i] = static_cast<int>(least - filled.begin());
    bucket->ranges[i] = {*least, *least + elements(i)};
    *least = RoundUp(*least + elements(i), items[bucket->items[i]].alignment);
  }
  const int64_t size = *std::max_element(filled.begin(), filled.end());
  for (size_t i = 0; i < order.size(); ++i) {
    bucket->ranges[i] = bucket->ranges[i].Minus(-shard[i] * size);
  }
  bucket->elements = size * num_ranks;
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
             (item.whole || last.elements + item.elements <= bucket_elements);
    }
    if (!open) buckets.emplace_back();
    FlatBucket& bucket = buckets.back();
    bucket.items.push_back(static_cast<int>(i));
    bucket.ranges.push_back({bucket.elements, bucket.elements + item.elements});
    bucket.elements = RoundUp(bucket.elements + item.elements, item.alignment);
    open = !item.alone;
  }
  for (FlatBucket& bucket : buckets) {
    const FlatItem& first = items[bucket.items[0]];
    if (first.whole) {
      PlaceWhole(items, num_ranks, &bucket);
    } else {
      bucket.elements = RoundUp(bucket.elements, first.alignment * num_ranks);
    }
  }
  return buckets;
}

}  // namespace lathe
