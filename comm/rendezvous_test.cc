#include "lathe/comm/rendezvous.h"

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

using Addresses = absl::StatusOr<std::vector<std::string>>;

// Each card comes from a thread of its own.
std::vector<Addresses> Meet(const std::vector<RankCard>& cards,
                            std::chrono::milliseconds timeout = std::chrono::seconds(30)) {
  const RendezvousStore store = WithPrefix("attempt_0", MakeThreadStore());
  std::vector<Addresses> results(cards.size(), Addresses(absl::UnknownError("not run")));
  std::vector<std::thread> threads;
  for (size_t i = 0; i < cards.size(); ++i) {
    threads.emplace_back([&, i] { results[i] = MeetRanks(*store, cards[i], timeout); });
  }
  for (std::thread& thread : threads) thread.join();
  return results;
}

TEST(MeetRanksTest, TellsAllAddresses) {
  const auto results = Meet(
      {{0, 3, "a", "10.0.0.1", "x\ny"}, {1, 3, "b", "10.0.0.2", "x\ny"}, {2, 3, "c", "", "x\ny"}});
  for (const Addresses& result : results) {
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(*result, (std::vector<std::string>{"10.0.0.1", "10.0.0.2", ""}));
  }
}

// All ranks end, with the message of the one that saw what is wrong.
void ExpectAll(const std::vector<Addresses>& results, absl::StatusCode code,
               const std::vector<std::string>& parts) {
  for (const Addresses& result : results) {
    EXPECT_EQ(result.status().code(), code) << result.status();
    for (const std::string& part : parts) {
      EXPECT_TRUE(absl::StrContains(result.status().message(), part)) << result.status();
    }
  }
}

TEST(MeetRanksTest, RefusesOtherFlagsByName) {
  ExpectAll(Meet({{0, 3, "a", "", "{\n  lr: 1\n  bf16: false"},
                  {1, 3, "b", "", "{\n  lr: 1\n  bf16: false"},
                  {2, 3, "c", "", "{\n  lr: 2\n  bf16: false"}}),
            absl::StatusCode::kInvalidArgument, {"rank 2 (c) has lr: 2 where rank 0 has lr: 1"});
  ExpectAll(Meet({{0, 2, "a", "", "x"}, {1, 2, "b", "", "x\ny"}}),
            absl::StatusCode::kInvalidArgument, {"has y where rank 0 has nothing"});
}

TEST(MeetRanksTest, RefusesAnotherWorldSize) {
  ExpectAll(Meet({{0, 2, "a", "", ""}, {1, 3, "b", "", ""}}), absl::StatusCode::kInvalidArgument,
            {"rank 1 (b) belongs to 3 ranks, but rank 0 to 2", "--nnodes"});
}

TEST(MeetRanksTest, RefusesARankThatIsThereTwice) {
  ExpectAll(Meet({{0, 3, "a", "", ""}, {1, 3, "b", "", ""}, {1, 3, "b", "", ""}}),
            absl::StatusCode::kAlreadyExists, {"rank 1 is there twice: b and b", "--node_rank"});
}

TEST(MeetRanksTest, NamesWhoDidNotCome) {
  ExpectAll(Meet({{0, 4, "a", "", ""}, {2, 4, "c", "", ""}}, std::chrono::seconds(1)),
            absl::StatusCode::kDeadlineExceeded, {"ranks 1, 3 of 4 did not come within 1 s"});
}

}  // namespace
}  // namespace lathe
