#include "lathe/comm/process_mesh.h"

#include <set>

#include "gtest/gtest.h"

namespace lathe {
namespace {

TEST(ProcessMeshTest, TensorParallelIsFastest) {
  const auto mesh = ProcessMesh::Create({{"tp", 2}, {"dp", 4}, {"pp", 2}});
  ASSERT_TRUE(mesh.ok());
  EXPECT_EQ(mesh->world_size(), 16);
  EXPECT_EQ(mesh->Coordinate(5, "tp"), 1);
  EXPECT_EQ(mesh->Coordinate(5, "dp"), 2);
  EXPECT_EQ(mesh->Coordinate(5, "pp"), 0);
  EXPECT_EQ(mesh->Coordinate(13, "pp"), 1);
  EXPECT_EQ(mesh->GroupOf(5, {"tp"}), (std::vector<int>{4, 5}));
  EXPECT_EQ(mesh->GroupOf(5, {"dp"}), (std::vector<int>{1, 3, 5, 7}));
  EXPECT_EQ(mesh->GroupOf(5, {"pp"}), (std::vector<int>{5, 13}));
}

TEST(ProcessMeshTest, GroupsPartitionTheWorld) {
  const auto mesh = ProcessMesh::Create({{"tp", 3}, {"dp", 2}, {"pp", 2}});
  for (const std::vector<std::string>& axes :
       {std::vector<std::string>{}, {"tp"}, {"dp"}, {"tp", "pp"}, {"tp", "dp", "pp"}}) {
    std::multiset<int> seen;
    std::set<std::vector<int>> groups;
    for (int rank = 0; rank < mesh->world_size(); ++rank) groups.insert(mesh->GroupOf(rank, axes));
    for (const auto& group : groups) seen.insert(group.begin(), group.end());
    EXPECT_EQ(seen.size(), 12u);
    EXPECT_EQ(std::set<int>(seen.begin(), seen.end()).size(), 12u);
  }
}

TEST(ProcessMeshTest, UnknownAxisHasSizeOne) {
  const auto mesh = ProcessMesh::Create({{"dp", 2}});
  EXPECT_EQ(mesh->size("cp"), 1);
  EXPECT_EQ(mesh->Coordinate(1, "cp"), 0);
  EXPECT_EQ(ProcessMesh().world_size(), 1);
}

TEST(ProcessMeshTest, RefusesBadAxes) {
  EXPECT_EQ(ProcessMesh::Create({{"dp", 0}}).status().message(),
            "mesh axis 'dp' has size 0; it must be at least 1");
  EXPECT_FALSE(ProcessMesh::Create({{"dp", 2}, {"dp", 2}}).ok());
  EXPECT_FALSE(ProcessMesh::Create({{"", 2}}).ok());
}

}  // namespace
}  // namespace lathe
