// The equivalence lattice: every combination of parallelism that a small model can be trained under
// with so many ranks. For tests.
//
//   const Lattice lattice = EnumerateCells(/*max_ranks=*/8);
//   for (const Cell& cell : CoverPairs(lattice.legal)) ...
//
// Pure functions; thread-safe.
#ifndef LATHE_TESTS_EQUIVALENCE_LATTICE_H_
#define LATHE_TESTS_EQUIVALENCE_LATTICE_H_

#include <map>
#include <string>
#include <vector>

#include "lathe/pipeline_parallel/actions.h"

namespace lathe {

// The lattice's model: 8 layers, hidden 32, 4 heads, 2 KV heads.
inline constexpr int kLatticeLayers = 8, kLatticeVocabulary = 67, kLatticeTokens = 16;

enum class CellRecompute { kNone, kMlp, kFull };

struct Cell {
  int dp = 1, tp = 1, pp = 1;
  bool sequence_parallel = false;
  ScheduleKind schedule = ScheduleKind::k1F1B;  // interleaved: with one layer per stage
  int accumulation = 1;                         // micro batches of an update
  CellRecompute recompute = CellRecompute::kNone;
  int zero_stage = 0;
  // The families take turns: "qwen2" has biases and tied embeddings, "llama" neither.
  std::string model;
};

// "dp2_tp2_pp2_sequence_zbh1_4_full_zero2_llama", fit to be a test's name.
std::string CellName(const Cell& cell);

struct Lattice {
  std::vector<Cell> legal;
  std::map<std::string, int> refused;  // the refusal, as a user would get it; cells it refuses
};

// Degrees from 1 whose product is at most max_ranks, every schedule, 1, 2 or 4 micro batches, every
// recomputation, sequence parallel where there is a tensor axis, and every stage of ZeRO where
// there is a data-parallel one. What is legal is what CheckLayout and CheckSchedule let pass.
Lattice EnumerateCells(int max_ranks);

// Of `cells` so many, greedily, that any two values of two axes that are together in some cell are
// together in one of these. The first ones cover the most.
std::vector<Cell> CoverPairs(const std::vector<Cell>& cells);

// The value on each axis, as small numbers; two cells are the same where these are.
std::vector<int> AxisValues(const Cell& cell);

}  // namespace lathe

#endif  // LATHE_TESTS_EQUIVALENCE_LATTICE_H_
