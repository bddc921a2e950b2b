#include "lathe/datasets/group_texts.h"

#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "lathe/datasets/dataset.h"
#include "lathe/datasets/golden.h"
#include "lathe/datasets/token_store.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

// Documents of these lengths, their ids counted up.
std::shared_ptr<const TokenStore> CountedTokens(const std::vector<int64_t>& lengths) {
  auto store = std::make_shared<TokenStore>();
  int32_t id = 0;
  for (const int64_t length : lengths) {
    std::vector<int32_t> ids(length);
    std::iota(ids.begin(), ids.end(), id);
    id += static_cast<int32_t>(length);
    store->Append(ids);
  }
  return store;
}

TEST(GroupTexts, EqualsDatasetsMap) {
  for (const nlohmann::json& golden : ReadGolden("group_texts.json")) {
    SCOPED_TRACE(golden.dump());
    const auto tokens = CountedTokens(golden["lengths"]);
    const int64_t block_size = golden["block_size"];
    const auto blocks = GroupTexts(tokens, {.block_size = block_size,
                                            .batch_size = golden["batch_size"],
                                            .num_shards = golden["num_proc"]});
    const std::vector<int32_t> starts = golden["starts"];
    if (starts.empty()) {
      EXPECT_EQ(blocks.status().code(), absl::StatusCode::kInvalidArgument);
      continue;
    }
    ASSERT_TRUE(blocks.ok()) << blocks.status();
    ASSERT_EQ((*blocks)->size(), starts.size());
    // Hugging Face keeps the block of a batch that is too small; we count it.
    EXPECT_EQ((*blocks)->num_short_batches(), golden["short_blocks"].get<int64_t>());
    EXPECT_EQ((*blocks)->num_dropped_tokens() + (*blocks)->size() * block_size,
              tokens->num_tokens());
    for (size_t i = 0; i < starts.size(); ++i) {
      std::vector<int32_t> expected(block_size);
      std::iota(expected.begin(), expected.end(), starts[i]);
      const Sample sample = (*blocks)->Get(i);
      EXPECT_EQ(sample.input_ids, expected);
      EXPECT_EQ(sample.labels.data(), sample.input_ids.data());
      EXPECT_EQ(sample.labels.size(), sample.input_ids.size());
    }
  }
}

TEST(GroupTexts, ARangeIsGroupedAsIfItWereAll) {
  const auto tokens = CountedTokens({3, 5, 7, 9, 11, 2});
  const auto range = *GroupTexts(
      tokens, {.block_size = 4, .num_shards = 2, .first_document = 1, .last_document = 5});
  const auto alone = *GroupTexts(CountedTokens({5, 7, 9, 11}), {.block_size = 4, .num_shards = 2});
  ASSERT_EQ(range->size(), alone->size());
  EXPECT_EQ(range->num_dropped_tokens(), alone->num_dropped_tokens());
  for (int64_t i = 0; i < alone->size(); ++i) {
    EXPECT_EQ(range->Get(i).input_ids.front(), alone->Get(i).input_ids.front() + 3);
  }
}

TEST(GroupTexts, SaysWhatIsMissing) {
  const auto status = GroupTexts(CountedTokens({30, 40, 7}), {.block_size = 128}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            "the data set has no block of 128 tokens: its 3 documents have 77 tokens; lower "
            "--block_size or give more text");
  EXPECT_NE(GroupTexts(CountedTokens({30, 40}), {.block_size = 50, .num_shards = 2})
                .status()
                .message()
                .find("70 tokens in 2 shards"),
            std::string::npos);
  EXPECT_EQ(GroupTexts(CountedTokens({30}), {.block_size = 0}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GroupTexts(CountedTokens({}), {.block_size = 4}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace lathe
