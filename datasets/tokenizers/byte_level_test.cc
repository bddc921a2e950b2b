#include "lathe/datasets/tokenizers/byte_level.h"

#include <set>

#include "gtest/gtest.h"

namespace lathe {
namespace {

TEST(ByteLevelTest, EachByteHasItsOwnCharacter) {
  std::set<std::string> characters;
  for (int b = 0; b < 256; ++b) {
    const std::string character = ByteLevelCharacter(static_cast<uint8_t>(b));
    characters.insert(character);
    std::string bytes = "x";
    ASSERT_TRUE(AppendByteLevelBytes(character, &bytes));
    EXPECT_EQ(bytes, std::string("x") + static_cast<char>(b));
  }
  EXPECT_EQ(characters.size(), 256u);
}

TEST(ByteLevelTest, KnownCharacters) {
  EXPECT_EQ(ByteLevelCharacter('a'), "a");
  EXPECT_EQ(ByteLevelCharacter(' '), "Ġ");
  EXPECT_EQ(ByteLevelCharacter('\n'), "Ċ");
  EXPECT_EQ(ByteLevelCharacter(0), "Ā");
  EXPECT_EQ(ByteLevelCharacter(0xAD), "Ń");
  EXPECT_EQ(ByteLevelCharacter(0xFF), "ÿ");
}

TEST(ByteLevelTest, CharactersOutsideTheAlphabetAddNothing) {
  std::string bytes = "x";
  EXPECT_FALSE(AppendByteLevelBytes("Ġa b", &bytes));
  EXPECT_FALSE(AppendByteLevelBytes("a中", &bytes));
  EXPECT_EQ(bytes, "x");
}

}  // namespace
}  // namespace lathe
