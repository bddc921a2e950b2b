#include "lathe/comm/slurm_lists.h"

#include "gtest/gtest.h"

namespace lathe {
namespace {

TEST(SlurmListsTest, FirstNode) {
  EXPECT_EQ(*FirstSlurmNode("node7"), "node7");
  EXPECT_EQ(*FirstSlurmNode("node[01-03,7],x"), "node01");
  EXPECT_EQ(*FirstSlurmNode("node[7,01-03]"), "node7");
  EXPECT_EQ(*FirstSlurmNode("login,node[1-2]"), "login");
  EXPECT_EQ(*FirstSlurmNode("rack[2-3]node[08-12]-ib"), "rack2node08-ib");
  EXPECT_EQ(*FirstSlurmNode("gpu-a[1].cluster.example"), "gpu-a1.cluster.example");
}

TEST(SlurmListsTest, RefusesWhatIsNoNodeList) {
  for (const char* text : {"", ",", "node[1", "node[[1]]", "node]1", "node[]", "node[-2]"}) {
    EXPECT_EQ(FirstSlurmNode(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(SlurmListsTest, CountOfNode) {
  const int expected[] = {4, 4, 3, 2, 2};
  for (int node = 0; node < 5; ++node) {
    EXPECT_EQ(*SlurmCountOfNode("4(x2),3,2(x2)", node), expected[node]) << node;
  }
  EXPECT_EQ(*SlurmCountOfNode("8", 0), 8);
  EXPECT_FALSE(SlurmCountOfNode("4(x2)", 2).ok());
  for (const char* text : {"", "x", "4(x", "4(x2", "4x2", "0", "4(x0)", "4,,2"}) {
    EXPECT_FALSE(SlurmCountOfNode(text, 1).ok()) << text;
  }
}

}  // namespace
}  // namespace lathe
