#include "lathe/base/config/did_you_mean.h"

#include <algorithm>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(EditDistanceTest, Examples) {
  EXPECT_EQ(EditDistance("", ""), 0);
  EXPECT_EQ(EditDistance("abc", ""), 3);
  EXPECT_EQ(EditDistance("", "ab"), 2);
  EXPECT_EQ(EditDistance("seed", "sede"), 1);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3);
  EXPECT_EQ(EditDistance("ca", "abc"), 3);  // restricted: no place is edited twice
}

// The definition, by recursion.
int Slow(std::string_view a, std::string_view b) {
  if (a.empty() || b.empty()) return static_cast<int>(a.size() + b.size());
  int best = std::min({Slow(a.substr(1), b) + 1, Slow(a, b.substr(1)) + 1,
                       Slow(a.substr(1), b.substr(1)) + (a[0] == b[0] ? 0 : 1)});
  if (a.size() > 1 && b.size() > 1 && a[0] == b[1] && a[1] == b[0]) {
    best = std::min(best, Slow(a.substr(2), b.substr(2)) + 1);
  }
  return best;
}

TEST(EditDistanceTest, EqualsTheDefinitionOnRandomWords) {
  std::mt19937 rng(3);
  for (int trial = 0; trial < 500; ++trial) {
    std::string a, b;
    for (unsigned i = rng() % 7; i > 0; --i) a += static_cast<char>('a' + rng() % 3);
    for (unsigned i = rng() % 7; i > 0; --i) b += static_cast<char>('a' + rng() % 3);
    ASSERT_EQ(EditDistance(a, b), Slow(a, b)) << a << " " << b;
  }
}

TEST(NearestNamesTest, Suggestions) {
  const std::vector<std::string> names = {"learning_rate",
                                          "seed",
                                          "data_seed",
                                          "save_steps",
                                          "per_device_train_batch_size",
                                          "per_device_eval_batch_size"};
  EXPECT_THAT(NearestNames("learnin_rate", names), ElementsAre("learning_rate"));
  EXPECT_THAT(NearestNames("lerning_rat", names), ElementsAre("learning_rate"));
  EXPECT_THAT(NearestNames("sede", names), ElementsAre("seed"));
  EXPECT_THAT(NearestNames("batch_size", names),
              ElementsAre("per_device_eval_batch_size", "per_device_train_batch_size"));
  EXPECT_THAT(NearestNames("quux", names), IsEmpty());
  EXPECT_THAT(NearestNames("s", names), IsEmpty());
  EXPECT_THAT(NearestNames("", names), IsEmpty());
  EXPECT_EQ(DidYouMean("quux", names), "");
  EXPECT_EQ(DidYouMean("sede", names, "--"), " (did you mean --seed?)");
}

}  // namespace
}  // namespace lathe
