#include "lathe/base/read_file.h"

#include <filesystem>
#include <fstream>

#include "gtest/gtest.h"

namespace lathe {
namespace {

TEST(ReadFileTest, ReadsBytesAndNamesWhatIsWrong) {
  const std::string folder = testing::TempDir(), path = folder + "/read_file_test.bin";
  const std::string bytes("a\0b\r\n", 5);
  std::ofstream(path, std::ios::binary) << bytes;
  EXPECT_EQ(*ReadFile(path), bytes);
  EXPECT_EQ(ReadFile(path, 4).status().message(), path + ": has 5 bytes; expected at most 4");
  std::ofstream(path, std::ios::binary | std::ios::trunc).close();
  EXPECT_EQ(*ReadFile(path), "");
  std::filesystem::remove(path);
  EXPECT_EQ(ReadFile(path).status().message(), path + ": no such file");
  EXPECT_TRUE(absl::IsInvalidArgument(ReadFile(folder).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(ReadFile("/dev/null").status()));
}

}  // namespace
}  // namespace lathe
