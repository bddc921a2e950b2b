#include "lathe/datasets/sampler.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "lathe/datasets/golden.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

TEST(EpochOrder, EqualsAccelerate) {
  for (const nlohmann::json& golden : ReadGolden("permutations.json")) {
    SCOPED_TRACE(golden.dump());
    const std::vector<int64_t> order =
        EpochOrder(SamplingStrategy::kRandom, golden["n"], golden["seed"], golden["epoch"]);
    ASSERT_EQ(order.size(), golden["n"].get<size_t>());
    const std::vector<int64_t> head = golden["head"];
    const std::vector<int64_t> tail = golden["tail"];
    EXPECT_TRUE(std::equal(head.begin(), head.end(), order.begin()));
    EXPECT_TRUE(std::equal(tail.begin(), tail.end(), order.end() - tail.size()));
    uint32_t checksum = 0;
    for (size_t i = 0; i < order.size(); ++i) {
      checksum += static_cast<uint32_t>(i + 1) * static_cast<uint32_t>(order[i]);
    }
    EXPECT_EQ(checksum, golden["checksum"].get<uint32_t>());
  }
}

TEST(EpochOrder, IsAPermutationThatDependsOnTheEpoch) {
  std::vector<int64_t> order = EpochOrder(SamplingStrategy::kRandom, 1000, 42, 0);
  EXPECT_NE(order, EpochOrder(SamplingStrategy::kRandom, 1000, 42, 1));
  EXPECT_EQ(order, EpochOrder(SamplingStrategy::kRandom, 1000, 41, 1));
  std::sort(order.begin(), order.end());
  EXPECT_EQ(order, EpochOrder(SamplingStrategy::kSequential, 1000, 42, 1));
}

TEST(EpochOrder, SequentialCounts) {
  std::vector<int64_t> expected(10);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(EpochOrder(SamplingStrategy::kSequential, 10, 1, 2), expected);
  EXPECT_TRUE(EpochOrder(SamplingStrategy::kSequential, 0, 1, 2).empty());
  EXPECT_TRUE(EpochOrder(SamplingStrategy::kRandom, 0, 1, 2).empty());
}

TEST(EpochOrder, ThreadsDoNotDisturbEachOther) {
  const std::vector<int64_t> expected = EpochOrder(SamplingStrategy::kRandom, 5000, 1, 0);
  std::vector<std::vector<int64_t>> orders(4);
  std::vector<std::thread> threads;
  for (auto& order : orders) {
    threads.emplace_back([&] { order = EpochOrder(SamplingStrategy::kRandom, 5000, 1, 0); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& order : orders) EXPECT_EQ(order, expected);
}

TEST(ParseSamplingStrategy, KnowsItsWords) {
  EXPECT_EQ(*ParseSamplingStrategy("random"), SamplingStrategy::kRandom);
  EXPECT_EQ(*ParseSamplingStrategy("sequential"), SamplingStrategy::kSequential);
  const absl::Status status = ParseSamplingStrategy("group_by_length").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("group_by_length"), std::string::npos);
}

}  // namespace
}  // namespace lathe
