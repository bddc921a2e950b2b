#include "lathe/base/box.h"

#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace lathe {
namespace {

// Every element of a small box by its index, the slow way.
std::vector<std::vector<int64_t>> Elements(const Box& box) {
  std::vector<std::vector<int64_t>> elements = {{}};
  for (int d = 0; d < box.num_dims(); ++d) {
    std::vector<std::vector<int64_t>> longer;
    for (const std::vector<int64_t>& element : elements) {
      for (int64_t i = 0; i < box.length[d]; ++i) {
        longer.push_back(element);
        longer.back().push_back(box.offset[d] + i);
      }
    }
    elements = std::move(longer);
  }
  return elements;
}

bool Holds(const Box& box, const std::vector<int64_t>& element) {
  for (int d = 0; d < box.num_dims(); ++d) {
    if (element[d] < box.offset[d] || element[d] >= box.offset[d] + box.length[d]) return false;
  }
  return true;
}

Box RandomBox(int num_dims, int extent, std::mt19937& rng) {
  Box box;
  for (int d = 0; d < num_dims; ++d) {
    const int64_t offset = static_cast<int64_t>(rng() % extent);
    box.offset.push_back(offset);
    box.length.push_back(static_cast<int64_t>(rng() % (extent - offset + 1)));
  }
  return box;
}

TEST(BoxTest, ReadsAsInTheHeader) {
  const Box whole = Box::Whole({6, 4});
  const Box mine = {.offset = {3, 0}, .length = {3, 4}};
  EXPECT_EQ(mine.Volume(), 12);
  EXPECT_TRUE(whole.Contains(mine));
  EXPECT_FALSE(mine.Contains(whole));
  EXPECT_EQ(Intersect(mine, {{2, 1}, {2, 2}}), (Box{{3, 1}, {1, 2}}));
  EXPECT_EQ(mine.ToString(), "[3:6, 0:4]");
  std::vector<std::pair<int64_t, int64_t>> runs;
  ForEachRun(mine, whole, [&](int64_t start, int64_t count) { runs.push_back({start, count}); });
  EXPECT_EQ(runs, (std::vector<std::pair<int64_t, int64_t>>{{12, 12}}));
}

TEST(BoxTest, AScalarHasOneElement) {
  const Box scalar = Box::Whole({});
  EXPECT_EQ(scalar.Volume(), 1);
  EXPECT_FALSE(scalar.Empty());
  EXPECT_EQ(Intersect(scalar, scalar), scalar);
  int64_t elements = 0;
  ForEachRun(scalar, scalar, [&](int64_t, int64_t count) { elements += count; });
  EXPECT_EQ(elements, 1);
}

TEST(BoxTest, EqualsTheElementwiseDefinitionOnRandomBoxes) {
  std::mt19937 rng(7);
  for (int trial = 0; trial < 3000; ++trial) {
    const int num_dims = static_cast<int>(rng() % 4);
    const Box a = RandomBox(num_dims, 5, rng);
    const Box b = RandomBox(num_dims, 5, rng);
    int64_t common = 0;
    bool all_of_b_in_a = true;
    for (const std::vector<int64_t>& element : Elements(b)) {
      if (Holds(a, element)) {
        ++common;
      } else {
        all_of_b_in_a = false;
      }
    }
    EXPECT_EQ(a.Contains(b), all_of_b_in_a) << a.ToString() << b.ToString();
    EXPECT_EQ(a.Volume(), static_cast<int64_t>(Elements(a).size()));
    const std::optional<Box> both = Intersect(a, b);
    ASSERT_EQ(both.has_value(), common > 0) << a.ToString() << b.ToString();
    if (!both) continue;
    EXPECT_EQ(both->Volume(), common);
    EXPECT_TRUE(a.Contains(*both));
    EXPECT_TRUE(b.Contains(*both));
    EXPECT_TRUE(Box::Whole(a.length).Contains(RelativeTo(*both, a)));
  }
}

TEST(BoxTest, RunsCoverThePartOnceInOrderAndAreMaximal) {
  std::mt19937 rng(8);
  for (int trial = 0; trial < 2000; ++trial) {
    const int num_dims = 1 + static_cast<int>(rng() % 4);
    const Box whole = RandomBox(num_dims, 5, rng);
    const Box wish = RandomBox(num_dims, 5, rng);
    const std::optional<Box> part = Intersect(whole, wish);
    if (!part) continue;
    std::vector<int64_t> expected;
    for (const std::vector<int64_t>& element : Elements(*part)) {
      int64_t position = 0;
      for (int d = 0; d < num_dims; ++d) {
        position = position * whole.length[d] + element[d] - whole.offset[d];
      }
      expected.push_back(position);
    }
    std::vector<int64_t> actual;
    int64_t end_of_last = -1;
    ForEachRun(*part, whole, [&](int64_t start, int64_t count) {
      EXPECT_GT(start, end_of_last) << "two runs touch: they are one";
      for (int64_t i = 0; i < count; ++i) actual.push_back(start + i);
      end_of_last = start + count;
    });
    EXPECT_EQ(actual, expected) << part->ToString() << " in " << whole.ToString();
  }
}

TEST(BoxTest, AnEmptyPartHasNoRuns) {
  ForEachRun({{1, 1}, {0, 2}}, Box::Whole({3, 3}), [](int64_t, int64_t) { FAIL(); });
}

TEST(CheckedVolumeTest, RefusesWhatDoesNotFit) {
  const int64_t big = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(*CheckedVolume({3, 4, 5}), 60);
  EXPECT_EQ(*CheckedVolume({}), 1);
  EXPECT_EQ(*CheckedVolume({big}), big);
  EXPECT_EQ(*CheckedVolume({big, big, 0}), 0);
  EXPECT_EQ(CheckedVolume({big, 2}).status().message(),
            "shape [9223372036854775807, 2] has more elements than 64 bits can count");
  EXPECT_EQ(CheckedVolume({int64_t{1} << 32, int64_t{1} << 31}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckedVolume({3, -1}).status().message(), "shape [3, -1] has a negative size");
}

TEST(BoxDeathTest, DifferentRanksAreAProgrammersError) {
  EXPECT_DEATH(Intersect(Box::Whole({1}), Box::Whole({1, 1})), "");
}

}  // namespace
}  // namespace lathe
