// Where parameters lie in flat buckets, and which part of a bucket belongs to which data-parallel
// rank.
//
//   std::vector<FlatBucket> buckets = LayOutFlat({{.elements = 12}, {.elements = 7}},
//                                                /*bucket_elements=*/8 << 20, /*num_ranks=*/2);
//   FlatRange mine = buckets[0].ShardOf(/*rank=*/1, /*num_ranks=*/2);
//
// Pure arithmetic: the same on all ranks and for all stages, so that every stage cuts parameters at
// the same places and adds in the same order. Thread-safe.
#ifndef LATHE_ZERO_FLAT_LAYOUT_H_
#define LATHE_ZERO_FLAT_LAYOUT_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace lathe {

struct FlatItem {
  int64_t elements = 0;
  int kind = 0;        // a bucket holds items of one kind (a dtype)
  int unit = 0;        // and of one unit of the model
  bool alone = false;  // in a bucket of its own
  // Where it starts, and shards with it: a multiple of 32. Items of one kind have one alignment.
  int64_t alignment = 32;
  bool whole = false;  // within one shard; likewise
};

// Elements [begin, end).
struct FlatRange {
  int64_t begin = 0, end = 0;

  int64_t size() const { return end - begin; }
  bool empty() const { return end <= begin; }
  // What both hold; empty where they do not meet.
  FlatRange Intersect(const FlatRange& other) const;
  FlatRange Minus(int64_t offset) const { return {begin - offset, end - offset}; }

  friend bool operator==(const FlatRange&, const FlatRange&) = default;
};

struct FlatBucket {
  int64_t elements = 0;           // padding included; every rank's shard is of one size
  std::vector<int> items;         // indices, in order
  std::vector<FlatRange> ranges;  // of each item, beside `items`

  FlatRange ShardOf(int rank, int num_ranks) const;
};

// Items in order; a bucket is closed before it would pass `bucket_elements`, and a larger item has
// one of its own. Items and shards start at multiples of their alignment. Items that are to be
// whole have one bucket for all of one kind and unit, however many: the larger first, each goes to
// the shard that has least, and all shards are padded to the fullest.
std::vector<FlatBucket> LayOutFlat(absl::Span<const FlatItem> items, int64_t bucket_elements,
                                   int num_ranks);

}  // namespace lathe

#endif  // LATHE_ZERO_FLAT_LAYOUT_H_
