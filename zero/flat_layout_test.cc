#include "lathe/zero/flat_layout.h"

#include <algorithm>

#include "gtest/gtest.h"

namespace lathe {
namespace {

TEST(FlatLayoutTest, ClosesBucketsBeforeTheyAreFull) {
  const auto buckets = LayOutFlat({{.elements = 100}, {.elements = 28}, {.elements = 1}}, 160, 1);
  ASSERT_EQ(buckets.size(), 2u);
  EXPECT_EQ(buckets[0].items, (std::vector<int>{0, 1}));
  EXPECT_EQ(buckets[0].ranges[1], (FlatRange{128, 156})) << "aligned";
  EXPECT_EQ(buckets[0].elements, 160);
  EXPECT_EQ(buckets[1].items, (std::vector<int>{2}));
  EXPECT_EQ(buckets[1].elements, 32);
}

TEST(FlatLayoutTest, LargeTiedAndOtherKindsStandAlone) {
  const auto buckets = LayOutFlat({{.elements = 10},
                                   {.elements = 1000},
                                   {.elements = 10},
                                   {.elements = 10, .kind = 1},
                                   {.elements = 10, .kind = 1, .alone = true},
                                   {.elements = 10, .kind = 1}},
                                  500, 2);
  std::vector<std::vector<int>> items;
  for (const FlatBucket& bucket : buckets) items.push_back(bucket.items);
  EXPECT_EQ(items, (std::vector<std::vector<int>>{{0}, {1}, {2}, {3}, {4}, {5}}));
}

TEST(FlatLayoutTest, ShardsTileABucket) {
  for (const int num_ranks : {1, 2, 3, 4, 7}) {
    const auto buckets = LayOutFlat({{.elements = 333}, {.elements = 5}}, 1 << 20, num_ranks);
    ASSERT_EQ(buckets.size(), 1u);
    int64_t at = 0;
    for (int rank = 0; rank < num_ranks; ++rank) {
      const FlatRange shard = buckets[0].ShardOf(rank, num_ranks);
      EXPECT_EQ(shard.begin, at);
      EXPECT_EQ(shard.begin % 32, 0);
      at = shard.end;
    }
    EXPECT_EQ(at, buckets[0].elements);
    EXPECT_GE(at, 333 + 5);
  }
}

TEST(FlatLayoutTest, AlignsItemsAndShards) {
  const auto buckets = LayOutFlat(
      {{.elements = 100, .alignment = 256}, {.elements = 300, .alignment = 256}}, 1 << 20, 3);
  ASSERT_EQ(buckets.size(), 1u);
  EXPECT_EQ(buckets[0].ranges[1], (FlatRange{256, 556}));
  EXPECT_EQ(buckets[0].elements, 768);
  EXPECT_EQ(buckets[0].ShardOf(2, 3), (FlatRange{512, 768}));
}

TEST(FlatLayoutTest, WholeItemsLieWithinOneShard) {
  const int64_t sizes[] = {64, 200, 31, 1000, 64, 64, 500, 8};
  std::vector<FlatItem> items;
  for (const int64_t size : sizes) items.push_back({.elements = size, .whole = true});
  items.push_back({.elements = 10, .unit = 1, .whole = true});
  for (const int num_ranks : {1, 2, 3, 4, 7, 16}) {
    // However small a bucket should be.
    const auto buckets = LayOutFlat(items, 100, num_ranks);
    ASSERT_EQ(buckets.size(), 2u);
    const FlatBucket& bucket = buckets[0];
    ASSERT_EQ(bucket.items.size(), 8u);
    EXPECT_EQ(bucket.elements % num_ranks, 0);
    std::vector<FlatRange> sorted = bucket.ranges;
    std::sort(sorted.begin(), sorted.end(),
              [](const FlatRange& a, const FlatRange& b) { return a.begin < b.begin; });
    for (size_t i = 1; i < sorted.size(); ++i) EXPECT_LE(sorted[i - 1].end, sorted[i].begin);
    for (size_t i = 0; i < bucket.items.size(); ++i) {
      const FlatRange& range = bucket.ranges[i];
      EXPECT_EQ(range.size(), sizes[i]);
      EXPECT_EQ(range.begin % 32, 0);
      int shards = 0;
      for (int rank = 0; rank < num_ranks; ++rank) {
        shards += !range.Intersect(bucket.ShardOf(rank, num_ranks)).empty();
      }
      EXPECT_EQ(shards, 1) << i << " on " << num_ranks;
    }
  }
  // 1000 and 31, 500, 200, 64, ...: balanced as far as the largest lets them be.
  EXPECT_EQ(LayOutFlat(items, 100, 2)[0].elements, 2 * 1024);
  EXPECT_EQ(LayOutFlat(items, 100, 16)[0].elements, 16 * 1024);
}

TEST(FlatLayoutTest, RangesMeet) {
  EXPECT_EQ((FlatRange{0, 10}.Intersect({5, 20})), (FlatRange{5, 10}));
  EXPECT_TRUE((FlatRange{0, 5}.Intersect({5, 20}).empty()));
  EXPECT_EQ((FlatRange{0, 5}.Intersect({7, 20}).size()), 0);
  EXPECT_EQ((FlatRange{7, 9}.Minus(7)), (FlatRange{0, 2}));
}

}  // namespace
}  // namespace lathe
