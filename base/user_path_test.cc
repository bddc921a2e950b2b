#include "lathe/base/user_path.h"

#include <cstdlib>

#include "gtest/gtest.h"

namespace lathe {
namespace {

TEST(ResolveUserPathTest, UnderBazelRunRelativePathsAreTheUsers) {
  setenv("BUILD_WORKING_DIRECTORY", "/home/ann", 1);
  EXPECT_EQ(ResolveUserPath("out"), "/home/ann/out");
  EXPECT_EQ(ResolveUserPath("./out/x"), "/home/ann/out/x");
  EXPECT_EQ(ResolveUserPath(".//out"), "/home/ann/out");
  EXPECT_EQ(ResolveUserPath("../out"), "/home/ann/../out");
  EXPECT_EQ(ResolveUserPath("."), "/home/ann");
  EXPECT_EQ(ResolveUserPath("./"), "/home/ann");
  EXPECT_EQ(ResolveUserPath("/data/x"), "/data/x");
  EXPECT_EQ(ResolveUserPath(""), "");
  EXPECT_EQ(ResolveUserPath("~/x"), "/home/ann/~/x");
  setenv("BUILD_WORKING_DIRECTORY", "/", 1);
  EXPECT_EQ(ResolveUserPath("out"), "/out");
}

TEST(ResolveUserPathTest, OtherwisePathsStayAsTyped) {
  unsetenv("BUILD_WORKING_DIRECTORY");
  EXPECT_EQ(ResolveUserPath("out"), "out");
  EXPECT_EQ(ResolveUserPath("./out"), "./out");
  setenv("BUILD_WORKING_DIRECTORY", "", 1);
  EXPECT_EQ(ResolveUserPath("out"), "out");
}

}  // namespace
}  // namespace lathe
