#include "lathe/tests/equivalence/lattice.h"

#include <algorithm>
#include <array>
#include <set>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "lathe/models/model_config.h"
#include "lathe/models/parallel_layout.h"

namespace lathe {
namespace {

constexpr ScheduleKind kSchedules[] = {ScheduleKind::kGPipe, ScheduleKind::k1F1B,
                                       ScheduleKind::kInterleaved, ScheduleKind::kZeroBubbleH1};
constexpr CellRecompute kRecomputes[] = {CellRecompute::kNone, CellRecompute::kMlp,
                                         CellRecompute::kFull};

absl::Status Check(const Cell& cell) {
  ModelConfig config;
  config.num_hidden_layers = kLatticeLayers;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.intermediate_size = 48;
  config.vocab_size = kLatticeVocabulary;
  const bool interleaves = cell.schedule == ScheduleKind::kInterleaved;
  const absl::Status layout =
      CheckLayout(config, {.world_size = cell.dp * cell.tp * cell.pp,
                           .tensor_model_parallel_size = cell.tp,
                           .pipeline_model_parallel_size = cell.pp,
                           .sequence_parallel = cell.sequence_parallel,
                           .num_layers_per_virtual_pipeline_stage = interleaves ? 1 : 0,
                           .num_micro_batches = cell.accumulation,
                           .seq_len = kLatticeTokens});
  if (!layout.ok()) return layout;
  return CheckSchedule(
      cell.schedule,
      {.num_ranks = cell.pp, .num_chunks = interleaves ? kLatticeLayers / cell.pp : 1},
      cell.accumulation);
}

// Two axes and a value of each.
using Pair = std::array<int, 4>;

std::vector<Pair> Pairs(const Cell& cell) {
  const std::vector<int> values = AxisValues(cell);
  std::vector<Pair> pairs;
  for (int i = 0; i < static_cast<int>(values.size()); ++i) {
    for (int j = 0; j < i; ++j) pairs.push_back({i, values[i], j, values[j]});
  }
  return pairs;
}

}  // namespace

std::string CellName(const Cell& cell) {
  static constexpr const char* kRecomputeNames[] = {"", "_mlp", "_full"};
  return absl::StrCat(
      "dp", cell.dp, "_tp", cell.tp, "_pp", cell.pp, cell.sequence_parallel ? "_sequence_" : "_",
      absl::StrReplaceAll(ScheduleName(cell.schedule), {{"-", ""}}), "_", cell.accumulation,
      kRecomputeNames[static_cast<int>(cell.recompute)],
      cell.zero_stage == 0 ? "" : absl::StrCat("_zero", cell.zero_stage), "_", cell.model);
}

std::vector<int> AxisValues(const Cell& cell) {
  return {cell.dp,
          cell.tp,
          cell.pp,
          cell.sequence_parallel,
          static_cast<int>(cell.schedule),
          cell.accumulation,
          static_cast<int>(cell.recompute),
          cell.zero_stage,
          cell.model == "llama"};
}

Lattice EnumerateCells(int max_ranks) {
  std::vector<Cell> cells;
  for (int dp = 1; dp <= max_ranks; ++dp) {
    for (int tp = 1; dp * tp <= max_ranks; ++tp) {
      for (int pp = 1; dp * tp * pp <= max_ranks; ++pp) {
        for (const ScheduleKind schedule : kSchedules) {
          for (const int accumulation : {1, 2, 4}) {
            for (const CellRecompute recompute : kRecomputes) {
              for (const int stage : {0, 1, 2, 3}) {
                if (dp == 1 && stage > 0) continue;  // there is nothing to shard over
                cells.push_back({dp, tp, pp, false, schedule, accumulation, recompute, stage, ""});
                if (tp == 1) continue;  // there is nothing to split the sequence over
                cells.push_back({dp, tp, pp, true, schedule, accumulation, recompute, stage, ""});
              }
            }
          }
        }
      }
    }
  }
  Lattice lattice;
  for (Cell& cell : cells) {
    const absl::Status status = Check(cell);
    if (!status.ok()) {
      ++lattice.refused[std::string(status.message())];
      continue;
    }
    // Not in step with any axis: there are 3 recomputations.
    cell.model = (lattice.legal.size() / (cell.tp > 1 ? 2 : 1)) % 2 == 0 ? "qwen2" : "llama";
    lattice.legal.push_back(cell);
  }
  return lattice;
}

std::vector<Cell> CoverPairs(const std::vector<Cell>& cells) {
  std::set<Pair> open;
  for (const Cell& cell : cells) {
    for (const Pair& pair : Pairs(cell)) open.insert(pair);
  }
  std::vector<Cell> cover;
  while (!open.empty()) {
    const Cell* best = nullptr;
    int most = 0;
    for (const Cell& cell : cells) {
      int count = 0;
      for (const Pair& pair : Pairs(cell)) count += open.count(pair);
      if (count > most) {
        most = count;
        best = &cell;
      }
    }
    cover.push_back(*best);
    for (const Pair& pair : Pairs(*best)) open.erase(pair);
  }
  return cover;
}

}  // namespace lathe
