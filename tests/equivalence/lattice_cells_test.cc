// Every cell of the lattice trains as one process does, through the real Trainer, ranks as threads:
// in fp64 with AdamW, and in fp32 with SGD, for AdamW's division makes a weight's step out of a
// gradient's last digits. LATHE_LATTICE chooses: "few", "cover" (all pairs) or "full".
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/tests/equivalence/lattice.h"
#include "lathe/tests/equivalence/small_training.h"

namespace lathe {
namespace {

std::vector<Cell> ChosenCells() {
  const char* chosen = std::getenv("LATHE_LATTICE");
  const std::string which = chosen == nullptr ? "few" : chosen;
  std::vector<Cell> cells = EnumerateCells(/*max_ranks=*/8).legal;
  if (which != "full") cells = CoverPairs(cells);
  if (which == "few") cells.resize(12);
  return cells;
}

// Five updates of batch_size · dp · accumulation samples, out of as many samples as that takes.
SmallTraining Updates(const Cell& cell, at::ScalarType dtype) {
  const int batch = 2 * cell.dp * cell.accumulation;
  return {.model = cell.model,
          .dtype = dtype,
          .batch_size = batch,
          .max_grad_norm = 0.5,
          .num_layers = kLatticeLayers,
          .vocab_size = kLatticeVocabulary,
          .num_samples = 5 * batch,
          .num_tokens = kLatticeTokens,
          .sgd = dtype == at::kFloat};
}

SmallTraining OnRanks(const Cell& cell, at::ScalarType dtype) {
  SmallTraining training = Updates(cell, dtype);
  training.batch_size = 2;
  training.accumulation = cell.accumulation;
  training.sequence_parallel = cell.sequence_parallel;
  training.schedule = cell.schedule;
  training.zero_stage = cell.zero_stage;
  training.num_layers_per_virtual_stage = cell.schedule == ScheduleKind::kInterleaved ? 1 : 0;
  training.recompute = cell.recompute == CellRecompute::kFull;
  training.recompute_mlp = cell.recompute == CellRecompute::kMlp;
  return training;
}

// One process with the whole batch in one piece.
const Outcome& SingleProcess(const SmallTraining& training) {
  static auto& known = *new std::map<std::tuple<std::string, at::ScalarType, int>, Outcome>();
  const auto [it, is_new] =
      known.try_emplace({training.model, training.dtype, training.batch_size});
  if (is_new) it->second = TrainSmall(*ParallelContext::SingleProcess(), training);
  return it->second;
}

// The largest of all ranks; they must have all weights between them.
Differences Measure(const Cell& cell, at::ScalarType dtype) {
  const Outcome& one = SingleProcess(Updates(cell, dtype));
  const SmallTraining training = OnRanks(cell, dtype);
  std::mutex mutex;
  std::set<std::string> seen;
  Differences worst;
  RunThreadRanks(*ProcessMesh::Create({{"tp", cell.tp}, {"dp", cell.dp}, {"pp", cell.pp}}),
                 [&](const ParallelContext& rank) {
                   const Outcome mine = TrainSmall(rank, training);
                   const Differences d = Difference(mine, one);
                   std::lock_guard<std::mutex> lock(mutex);
                   EXPECT_EQ(mine.first_gradients.size(), mine.weights.size());
                   for (const auto& [name, parts] : mine.weights) seen.insert(name);
                   for (double Differences::* of :
                        {&Differences::losses, &Differences::grad_norms, &Differences::gradients,
                         &Differences::weights, &Differences::first_gradients,
                         &Differences::first_gradients_l2}) {
                     worst.*of = std::max(worst.*of, d.*of);
                   }
                 });
  EXPECT_EQ(seen.size(), one.weights.size());
  return worst;
}

class LatticeCellsTest : public testing::TestWithParam<Cell> {};

TEST_P(LatticeCellsTest, EqualsOneProcess) {
  // Sums in another order: some 1e-16 per term; the bar is the project's.
  const Differences fp64 = Measure(GetParam(), at::kDouble);
  EXPECT_LT(fp64.losses, 1e-10);
  EXPECT_LT(fp64.grad_norms, 1e-10);
  EXPECT_LT(fp64.first_gradients, 1e-10);
  EXPECT_LT(fp64.weights, 1e-10);
  // 1e-7 per term.
  const Differences fp32 = Measure(GetParam(), at::kFloat);
  EXPECT_LT(fp32.losses, 2e-5);
  EXPECT_LT(fp32.first_gradients_l2, 1e-4);
  EXPECT_LT(fp32.weights, 2e-5);
  std::printf("%s: fp64 losses %.1e gradients %.1e weights %.1e; fp32 %.1e %.1e %.1e\n",
              CellName(GetParam()).c_str(), fp64.losses, fp64.first_gradients, fp64.weights,
              fp32.losses, fp32.first_gradients_l2, fp32.weights);
}

INSTANTIATE_TEST_SUITE_P(Cells, LatticeCellsTest, testing::ValuesIn(ChosenCells()),
                         [](const auto& info) { return CellName(info.param); });

}  // namespace
}  // namespace lathe
