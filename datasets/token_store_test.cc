#include "lathe/datasets/token_store.h"

#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace lathe {
namespace {

TEST(TokenStore, HoldsDocuments) {
  TokenStore store;
  EXPECT_EQ(store.num_documents(), 0);
  EXPECT_EQ(store.num_tokens(), 0);
  EXPECT_TRUE(store.Tokens(0, 0).empty());
  store.Append({});
  store.Append({1, 2, 3});
  store.AppendDocuments({4, 5, 6}, {1, 0, 2});
  EXPECT_EQ(store.num_documents(), 5);
  EXPECT_EQ(store.num_tokens(), 6);
  EXPECT_TRUE(store.Document(0).empty());
  EXPECT_EQ(store.Document(4), (std::vector<int32_t>{5, 6}));
  EXPECT_EQ(store.Tokens(1, 3), (std::vector<int32_t>{1, 2, 3, 4}));
  EXPECT_EQ(store.TokenIndex(0), 0);
  EXPECT_EQ(store.TokenIndex(2), 3);
  EXPECT_EQ(store.TokenIndex(5), 6);

  TokenStore moved = std::move(store);
  EXPECT_EQ(moved.Document(1), (std::vector<int32_t>{1, 2, 3}));
}

TEST(TokenStore, EqualsAVectorOfVectors) {
  std::mt19937 random(1);
  std::vector<std::vector<int32_t>> expected;
  TokenStore store;
  for (int i = 0; i < 3000; ++i) {
    std::vector<int32_t>& ids = expected.emplace_back(random() % 700);
    for (int32_t& id : ids) id = static_cast<int32_t>(random());
    store.Append(ids);
  }
  ASSERT_EQ(store.num_documents(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(store.Document(i), expected[i]);
}

}  // namespace
}  // namespace lathe
