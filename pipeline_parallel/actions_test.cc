// Every schedule on paper, for 1 to 16 ranks and 1 to 64 micro batches: it finishes, does each
// thing once and in order, keeps no more in flight than it may, and its bubble is the formula's.
#include "lathe/pipeline_parallel/actions.h"

#include <algorithm>
#include <iostream>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "lathe/pipeline_parallel/simulator.h"

namespace lathe {
namespace {

using Kind = Action::Kind;

std::vector<Schedule> AllRanks(ScheduleKind kind, int p, int m, int v) {
  std::vector<Schedule> schedules;
  for (int rank = 0; rank < p; ++rank) schedules.push_back(MakeSchedule(kind, {p, rank, v}, m));
  return schedules;
}

// Each micro batch goes through each chunk once per direction, in ascending order.
void ExpectComplete(const Schedule& schedule, ScheduleKind kind, int m, int v) {
  std::map<std::pair<Kind, int>, int> next;  // by kind and chunk
  for (const Step& step : schedule) {
    for (const Action& a : step) ASSERT_EQ(a.micro_batch, (next[{a.kind, a.chunk}]++));
  }
  const bool splits = kind == ScheduleKind::kZeroBubbleH1;
  ASSERT_EQ(next.size(), static_cast<size_t>((splits ? 3 : 2) * v));
  for (const auto& [key, count] : next) {
    ASSERT_EQ(count, m);
    ASSERT_EQ(key.first == Kind::kBackward, !splits && key.first != Kind::kForward);
  }
}

// What an action waits for is done when it begins, whoever does it.
void ExpectDependencies(const Timeline& timeline, int p, int v) {
  std::map<std::tuple<bool, int, int>, int> done;  // (forward, stage, micro batch) → end
  for (int rank = 0; rank < p; ++rank) {
    for (const TimedAction& t : timeline.ranks[rank]) {
      if (t.action.kind == Kind::kWeightGradient) continue;
      done[{t.action.kind == Kind::kForward, t.action.chunk * p + rank, t.action.micro_batch}] =
          t.end;
    }
  }
  for (int rank = 0; rank < p; ++rank) {
    int now = 0;
    for (const TimedAction& t : timeline.ranks[rank]) {
      ASSERT_GE(t.begin, now) << "one thing at a time";
      now = t.end;
      const int stage = t.action.chunk * p + rank, i = t.action.micro_batch;
      if (t.action.kind == Kind::kForward) {
        if (stage > 0) {
          ASSERT_GE(t.begin, (done[{true, stage - 1, i}]));
        }
      } else {
        ASSERT_GE(t.begin, (done[{true, stage, i}]));
        if (t.action.kind == Kind::kWeightGradient) {
          ASSERT_GE(t.begin, (done[{false, stage, i}]));
        } else if (stage < p * v - 1) {
          ASSERT_GE(t.begin, (done[{false, stage + 1, i}]));
        }
      }
    }
  }
}

// Where every forward, input gradient and weight gradient takes 1.
double Bubble(ScheduleKind kind, int p, int m, int v) {
  if (kind != ScheduleKind::kZeroBubbleH1) return (p - 1.0) / (v * m + p - 1);
  // Each rank computes 3 m. Weight gradients fill two thirds of 1F1B's bubble of 3 (p − 1) if there
  // are enough of them (m ≥ p); else the last micro batch's way through the ranks counts: the last
  // rank begins at p − 1, works 2 m, and p − 1 input gradients and a weight gradient follow.
  const double span = m >= p ? 3.0 * m + p - 1 : 2.0 * (m + p - 1) + 1;
  return 1 - 3 * m / span;
}

int InFlightBound(ScheduleKind kind, const PipelinePlace& place, int m) {
  const int behind = place.num_ranks - 1 - place.rank;
  switch (kind) {
    case ScheduleKind::kGPipe:
      return m;
    case ScheduleKind::k1F1B:
      return std::min(m, behind + 1);
    case ScheduleKind::kInterleaved:
      // Megatron's bound, or a rest that does not divide by the ranks.
      return std::max(
          std::min(m * place.num_chunks, 2 * behind + (place.num_chunks - 1) * place.num_ranks + 1),
          m % place.num_ranks * place.num_chunks);
    case ScheduleKind::kZeroBubbleH1:
      return std::min(m, place.num_ranks);
  }
  return 0;
}

void Check(ScheduleKind kind, int p, int m, int v) {
  SCOPED_TRACE(std::string(ScheduleName(kind)) + " p " + std::to_string(p) + " m " +
               std::to_string(m) + " v " + std::to_string(v));
  const std::vector<Schedule> schedules = AllRanks(kind, p, m, v);
  for (int rank = 0; rank < p; ++rank) {
    ExpectComplete(schedules[rank], kind, m, v);
    const PipelinePlace place{p, rank, v};
    ASSERT_LE(MaxInFlight(schedules[rank]), InFlightBound(kind, place, m));
  }
  const auto timeline = Simulate(schedules, v, {});
  ASSERT_TRUE(timeline.ok()) << timeline.status();
  ExpectDependencies(*timeline, p, v);
  if (m % p == 0 || v == 1) {
    ASSERT_NEAR(timeline->BubbleFraction(), Bubble(kind, p, m, v), 1e-12);
  }
}

TEST(ActionsTest, EveryScheduleKeepsItsPromises) {
  for (int p = 1; p <= 16; ++p) {
    for (int m = 1; m <= 64; ++m) {
      for (const ScheduleKind kind :
           {ScheduleKind::kGPipe, ScheduleKind::k1F1B, ScheduleKind::kZeroBubbleH1}) {
        Check(kind, p, m, 1);
      }
      for (int v = 2; p > 1 && v <= 4; ++v) Check(ScheduleKind::kInterleaved, p, m, v);
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST(ActionsTest, ForwardsAloneFinish) {
  for (int p = 1; p <= 16; ++p) {
    for (int v = 1; v <= (p > 1 ? 4 : 1); ++v) {
      for (int m = 1; m <= 64; ++m) {
        std::vector<Schedule> schedules;
        for (int rank = 0; rank < p; ++rank) {
          schedules.push_back(MakeForwardSchedule({p, rank, v}, m));
        }
        const auto timeline = Simulate(schedules, v, {});
        ASSERT_TRUE(timeline.ok()) << timeline.status() << " p " << p << " m " << m << " v " << v;
        if (m % p == 0 || v == 1) {
          ASSERT_EQ(timeline->Span(), v * m + p - 1);
        }
      }
    }
  }
}

TEST(ActionsTest, PicturesForAPerson) {
  for (const auto& [kind, v] :
       std::vector<std::pair<ScheduleKind, int>>{{ScheduleKind::kGPipe, 1},
                                                 {ScheduleKind::k1F1B, 1},
                                                 {ScheduleKind::kInterleaved, 2},
                                                 {ScheduleKind::kZeroBubbleH1, 1}}) {
    const auto timeline = Simulate(AllRanks(kind, 4, 8, v), v, {});
    ASSERT_TRUE(timeline.ok()) << timeline.status();
    std::cout << ScheduleName(kind) << ", bubble " << timeline->BubbleFraction() << "\n"
              << timeline->Picture() << "\n";
  }
  const auto small = Simulate(AllRanks(ScheduleKind::k1F1B, 2, 2, 1), 1, {});
  ASSERT_TRUE(small.ok());
  EXPECT_EQ(small->Picture(),
            "F0 F1 .. .. B0 B0 .. B1 B1 \n"
            ".. F0 B0 B0 F1 B1 B1 \n");
}

TEST(SimulatorTest, NoticesDeadlockAndDisorder) {
  // Rank 0 wants a gradient before it has sent anything.
  std::vector<Schedule> circle = AllRanks(ScheduleKind::k1F1B, 2, 2, 1);
  std::swap(circle[0].front(), circle[0][2]);
  EXPECT_FALSE(Simulate(circle, 1, {}).ok());
  // Rank 1 takes the micro batches in the other order.
  std::vector<Schedule> disorder = AllRanks(ScheduleKind::kGPipe, 2, 2, 1);
  std::swap(disorder[1][0], disorder[1][1]);
  const auto timeline = Simulate(disorder, 1, {});
  ASSERT_FALSE(timeline.ok());
  EXPECT_NE(timeline.status().message().find("different orders"), std::string::npos)
      << timeline.status();
}

TEST(CheckScheduleTest, SaysWhatToChange) {
  const auto refusal = [](ScheduleKind kind, PipelinePlace place, int m) {
    return std::string(CheckSchedule(kind, place, m).message());
  };
  EXPECT_EQ(refusal(ScheduleKind::k1F1B, {4, 0, 1}, 3), "");
  EXPECT_EQ(refusal(ScheduleKind::kInterleaved, {4, 0, 2}, 8), "");
  EXPECT_NE(
      refusal(ScheduleKind::kInterleaved, {4, 0, 2}, 6).find("--gradient_accumulation_steps 6"),
      std::string::npos);
  EXPECT_NE(refusal(ScheduleKind::kInterleaved, {4, 0, 1}, 8).find("--num_layers_per_virtual"),
            std::string::npos);
  EXPECT_NE(
      refusal(ScheduleKind::kInterleaved, {1, 0, 1}, 8).find("--pipeline_model_parallel_size"),
      std::string::npos);
  EXPECT_NE(refusal(ScheduleKind::kGPipe, {4, 0, 2}, 8).find("--pipeline_schedule gpipe"),
            std::string::npos);
  EXPECT_EQ(*ParseScheduleKind("zb-h1"), ScheduleKind::kZeroBubbleH1);
  EXPECT_FALSE(ParseScheduleKind("1F1B").ok());
}

}  // namespace
}  // namespace lathe
