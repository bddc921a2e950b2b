#include "lathe/zero/flat_layout.h"

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

TEST(FlatLayoutTest, RangesMeet) {
  EXPECT_EQ((FlatRange{0, 10}.Intersect({5, 20})), (FlatRange{5, 10}));
  EXPECT_TRUE((FlatRange{0, 5}.Intersect({5, 20}).empty()));
  EXPECT_EQ((FlatRange{0, 5}.Intersect({7, 20}).size()), 0);
  EXPECT_EQ((FlatRange{7, 9}.Minus(7)), (FlatRange{0, 2}));
}

}  // namespace
}  // namespace lathe
