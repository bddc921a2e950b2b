#include "lathe/base/beacon.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

// Runs `rank` in a process of its own, to which the board offers a beacon; returns what it returns.
template <typename Rank>
int RunRank(const BeaconBoard& board, int rank, Rank body) {
  const pid_t pid = fork();
  if (pid == 0) {
    board.Offer(rank);
    _exit(ConnectBeacon().ok() ? body() : 99);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(BeaconTest, LauncherReadsWhatTheRankSaidLast) {
  absl::StatusOr<BeaconBoard> board = BeaconBoard::Create(3);
  ASSERT_TRUE(board.ok()) << board.status();
  EXPECT_EQ(board->Read(1).signs, 0);
  EXPECT_EQ(board->Read(1).step, -1);
  EXPECT_EQ(board->Read(1).phase, Phase::kStart);
  ASSERT_EQ(RunRank(*board, 1,
                    [] {
                      BeginPhase(Phase::kForward, 7);
                      BeginPhase(Phase::kBackward);
                      {
                        InCollective passed("barrier", "tp");
                      }
                      // The longest that there is, and the process ends within it.
                      new InCollective("all-reduce in blocks", "embedding");
                      return std::getenv("LATHE_BEACON") == nullptr ? 0 : 1;
                    }),
            0);
  const BeaconReading reading = board->Read(1);
  EXPECT_EQ(reading.signs, 5);
  EXPECT_EQ(reading.step, 7);
  EXPECT_EQ(PhaseName(reading.phase), "backward");
  EXPECT_EQ(reading.collective, "all-reduce in blocks in group 'embedding'");
  for (const int other : {0, 2}) {
    EXPECT_EQ(board->Read(other).signs, 0);
    EXPECT_EQ(board->Read(other).collective, "");
  }
}

TEST(BeaconTest, CollectiveStaysWhereItFailed) {
  absl::StatusOr<BeaconBoard> board = BeaconBoard::Create(2);
  ASSERT_TRUE(board.ok()) << board.status();
  const auto passes = [] {
    {
      InCollective in("broadcast", "dp");
    }
    return 0;
  };
  const auto fails = [] {
    try {
      InCollective in("broadcast", "dp");
      throw std::runtime_error("peer is gone");
    } catch (const std::exception&) {
    }
    return 0;
  };
  ASSERT_EQ(RunRank(*board, 0, passes), 0);
  ASSERT_EQ(RunRank(*board, 1, fails), 0);
  EXPECT_EQ(board->Read(0).collective, "");
  EXPECT_EQ(board->Read(1).collective, "broadcast in group 'dp'");
}

TEST(BeaconTest, ABackgroundThreadsCollectivesDoNotShow) {
  absl::StatusOr<BeaconBoard> board = BeaconBoard::Create(1);
  ASSERT_TRUE(board.ok()) << board.status();
  const auto waits_while_another_saves = [] {
    new InCollective("barrier", "dp");  // and the process ends within it
    std::thread([] {
      HideCollectives hidden;
      InCollective in("all-gather", "save");
    }).join();
    return 0;
  };
  ASSERT_EQ(RunRank(*board, 0, waits_while_another_saves), 0);
  EXPECT_EQ(board->Read(0).collective, "barrier in group 'dp'");
  EXPECT_EQ(board->Read(0).signs, 3) << "the rank moves all the same";
}

TEST(BeaconTest, WithoutALauncherSignsDoNothing) {
  ASSERT_TRUE(ConnectBeacon().ok());
  GiveSign();
  BeginPhase(Phase::kSave, 1);
  InCollective in("barrier", "dp");
}

TEST(BeaconTest, RefusesWhatIsNoBeacon) {
  absl::StatusOr<BeaconBoard> board = BeaconBoard::Create(2);
  ASSERT_TRUE(board.ok()) << board.status();
  for (const char* offer : {"", "1", "x:0", "0:0", "12345:0", "-1:-1"}) {
    setenv("LATHE_BEACON", offer, 1);
    EXPECT_EQ(ConnectBeacon().code(), absl::StatusCode::kInvalidArgument) << offer;
  }
  board->Offer(2);
  EXPECT_FALSE(ConnectBeacon().ok()) << "there are two ranks";
  unsetenv("LATHE_BEACON");
}

}  // namespace
}  // namespace lathe
