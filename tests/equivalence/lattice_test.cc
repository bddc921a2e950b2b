#include "lathe/tests/equivalence/lattice.h"

#include <cstdio>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace lathe {
namespace {

TEST(LatticeTest, LegalAndRefused) {
  const Lattice lattice = EnumerateCells(8);
  std::set<std::string> names;
  int refused = 0;
  for (const Cell& cell : lattice.legal) {
    EXPECT_TRUE(names.insert(CellName(cell)).second) << CellName(cell);
    EXPECT_LE(cell.dp * cell.tp * cell.pp, 8);
    EXPECT_EQ(4 % cell.tp, 0) << CellName(cell);
    if (cell.schedule != ScheduleKind::kInterleaved) continue;
    EXPECT_TRUE(cell.pp == 2 || cell.pp == 4) << CellName(cell);
    EXPECT_EQ(cell.accumulation % cell.pp, 0) << CellName(cell);
  }
  for (const auto& [reason, count] : lattice.refused) {
    refused += count;
    std::printf("%4d refused: %s\n", count, reason.c_str());
  }
  // (dp, tp, pp) of up to 8 ranks, those with a data-parallel axis four times, for the stages of
  // ZeRO: with tp 1 8 + 4 · 12, with tp 2 4 + 4 · 4, with tp 4 2 + 4 · 1. Each with 3 schedules, 3
  // accumulations and 3 recomputations, twice where a sequence is split. Interleaved, with 2 or 4
  // micro batches at pp 2 (likewise 1 + 4 · 3, 1 + 4, 1) and with 4 at pp 4 (1 + 4, 1).
  const int shapes = (8 + 4 * 12) + 2 * (4 + 4 * 4) + 2 * (2 + 4 * 1);
  const int interleaved = 3 * (2 * ((1 + 4 * 3) + 2 * (1 + 4) + 2 * 1) + ((1 + 4) + 2 * 1));
  EXPECT_EQ(lattice.legal.size(), 27u * shapes + interleaved);
  std::printf("%d legal, %d refused\n", static_cast<int>(lattice.legal.size()), refused);
  EXPECT_GT(refused, 0);
}

TEST(LatticeTest, TheCoverHasEveryPair) {
  const std::vector<Cell> cells = EnumerateCells(8).legal;
  const std::vector<Cell> cover = CoverPairs(cells);
  std::printf("%d cells cover all pairs\n", static_cast<int>(cover.size()));
  EXPECT_LE(cover.size(), 80u);
  for (const Cell& cell : cells) {
    const std::vector<int> values = AxisValues(cell);
    for (size_t i = 0; i < values.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        bool found = false;
        for (const Cell& other : cover) {
          const std::vector<int> theirs = AxisValues(other);
          found |= theirs[i] == values[i] && theirs[j] == values[j];
        }
        ASSERT_TRUE(found) << CellName(cell) << " axes " << i << ", " << j;
      }
    }
  }
}

}  // namespace
}  // namespace lathe
