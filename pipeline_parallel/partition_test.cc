#include "lathe/pipeline_parallel/partition.h"

#include <algorithm>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace lathe {
namespace {

std::vector<int> Boundaries(const PartitionOptions& options) {
  const auto partition = PartitionLayers(options);
  EXPECT_TRUE(partition.ok()) << partition.status();
  return partition.ok() ? partition->boundaries : std::vector<int>();
}

std::string Refusal(const PartitionOptions& options) {
  const auto partition = PartitionLayers(options);
  return partition.ok() ? "" : std::string(partition.status().message());
}

TEST(PartitionTest, OneStageHoldsEverything) {
  for (const char* layout : {"flops", "even", "Et*8L"}) {
    EXPECT_EQ(Boundaries({.num_blocks = 8, .head_cost = 3, .layout = layout}),
              (std::vector<int>{0, 10}));
  }
}

TEST(PartitionTest, TheHeadCountsAsItsProduct) {
  EXPECT_EQ(Boundaries({.num_blocks = 8, .num_ranks = 2}), (std::vector<int>{0, 5, 10}));
  EXPECT_EQ(Boundaries({.num_blocks = 8, .head_cost = 2, .num_ranks = 2}),
            (std::vector<int>{0, 6, 10}));
  EXPECT_EQ(Boundaries({.num_blocks = 24, .head_cost = 2.5, .num_ranks = 4}),
            (std::vector<int>{0, 7, 14, 21, 26}));
  // A head that outweighs everything has a stage for itself.
  EXPECT_EQ(Boundaries({.num_blocks = 2, .head_cost = 100, .num_ranks = 3}),
            (std::vector<int>{0, 2, 3, 4}));
}

// Against all ways to cut, for small numbers.
TEST(PartitionTest, NoOtherCutIsFaster) {
  for (int blocks = 3; blocks <= 9; ++blocks) {
    for (double head : {0.0, 0.4, 1.0, 2.7, 20.0}) {
      const std::vector<int> found =
          Boundaries({.num_blocks = blocks, .head_cost = head, .num_ranks = 3});
      const auto cost = [&](int first, int second) {
        // Stages with the blocks 1 to first, to second, and the others with the head.
        return std::max({1.0 * first, 1.0 * (second - first), blocks - second + head});
      };
      double best = 1e9;
      for (int first = 1; first <= blocks; ++first) {
        for (int second = first + 1; second <= blocks; ++second) {
          best = std::min(best, cost(first, second));
        }
      }
      EXPECT_DOUBLE_EQ(cost(found[1] - 1, found[2] - 1), best) << blocks << " " << head;
    }
  }
}

TEST(PartitionTest, VirtualStages) {
  const auto partition =
      PartitionLayers({.num_blocks = 8, .num_ranks = 2, .num_layers_per_virtual_stage = 2});
  ASSERT_TRUE(partition.ok());
  EXPECT_EQ(partition->num_chunks, 2);
  EXPECT_EQ(partition->boundaries, (std::vector<int>{0, 3, 5, 7, 10}));
}

TEST(PartitionTest, Patterns) {
  EXPECT_EQ(Boundaries({.num_blocks = 5, .num_ranks = 4, .layout = "E|tt|t*3|L"}),
            (std::vector<int>{0, 1, 3, 6, 7}));
  EXPECT_EQ(Boundaries({.num_blocks = 7, .num_ranks = 4, .layout = "Et, (t|t)*2 |ttL"}),
            (std::vector<int>{0, 3, 5, 6, 9}));
  const auto nested =
      PartitionLayers({.num_blocks = 7, .num_ranks = 2, .layout = "Et|(t*2|)*2ttL"});
  ASSERT_TRUE(nested.ok()) << nested.status();
  EXPECT_EQ(nested->num_chunks, 2);
  EXPECT_EQ(nested->boundaries, (std::vector<int>{0, 2, 4, 6, 9}));
}

TEST(PartitionTest, RefusesByName) {
  EXPECT_NE(Refusal({.num_blocks = 7, .num_ranks = 2, .layout = "even"})
                .find("num_hidden_layers 7 does not divide by --pipeline_model_parallel_size 2"),
            std::string::npos);
  EXPECT_NE(Refusal({.num_blocks = 2, .num_ranks = 4}).find("--pipeline_model_parallel_size 4"),
            std::string::npos);
  EXPECT_NE(Refusal({.num_blocks = 8, .num_ranks = 2, .num_layers_per_virtual_stage = 3})
                .find("--num_layers_per_virtual_pipeline_stage 3"),
            std::string::npos);
  EXPECT_NE(Refusal({.num_blocks = 8,
                     .num_ranks = 2,
                     .num_layers_per_virtual_stage = 2,
                     .layout = "Et*4|t*4L"})
                .find("leave out one of them"),
            std::string::npos);
  for (const char* layout : {"", "Et*8|", "E|t*7|L", "Et*8Lx", "Et*8)L", "(Et*8L", "Et*0L",
                             "t*4E|t*4L", "Et*4|t*4", "Et*99999999999L", "Et*4|t*4L|", "Em*8L"}) {
    EXPECT_NE(Refusal({.num_blocks = 8, .num_ranks = 2, .layout = layout})
                  .find("--pipeline_model_parallel_layout"),
              std::string::npos)
        << layout;
  }
  const std::string deep(1000, '(');
  EXPECT_NE(Refusal({.num_blocks = 8, .num_ranks = 2, .layout = deep}).find("too many ("),
            std::string::npos);
  EXPECT_NE(Refusal({.num_blocks = 8, .num_ranks = 2, .layout = "(((t*60000)*60000)*9)"})
                .find("too many layers"),
            std::string::npos);
}

}  // namespace
}  // namespace lathe
