// Updates by each optimizer of one matrix in memory: elements a second.
#include <cstdint>
#include <string>
#include <vector>

#include "ATen/ops/full.h"
#include "ATen/ops/linspace.h"
#include "ATen/ops/zeros.h"
#include "benchmark/benchmark.h"
#include "lathe/zero/optim_by_name.h"
#include "lathe/zero/update_rule.h"

namespace lathe {
namespace {

constexpr int64_t kRows = 1024, kColumns = 4096, kElements = kRows * kColumns;

int64_t NumValues(const RuleState& state) {
  switch (state.extent) {
    case RuleState::Extent::kElement:
      return kElements;
    case RuleState::Extent::kBlock:
      return kElements / kStateBlock;
    case RuleState::Extent::kRow:
      return kRows;
    default:
      return kColumns;
  }
}

void Update(benchmark::State& state, const std::string& optim, const std::string& args) {
  const RuleSet rules = RulesByName(optim, args, {}).value();
  UpdatePiece piece{.weight = at::linspace(-1, 1, kElements, at::kFloat),
                    .grad = at::linspace(1, -0.5, kElements, at::kFloat),
                    .shape = {kRows, kColumns}};
  for (const RuleState& s : rules.rule->states()) {
    piece.states.push_back(at::zeros({NumValues(s)}, s.dtype.value_or(at::kFloat)));
  }
  int64_t number = 0;
  for (auto _ : state) {
    ++number;
    rules.rule->Update({piece}, {.learning_rate = 1e-4,
                                 .weight_decay = 0.1,
                                 .step = at::full({1}, number, at::kFloat),
                                 .number = number});
  }
  state.SetItemsProcessed(state.iterations() * kElements);
}
BENCHMARK_CAPTURE(Update, adamw, "adamw_torch", "")->UseRealTime();
BENCHMARK_CAPTURE(Update, adamw_bf16, "adamw_torch", "state_dtype=bf16")->UseRealTime();
BENCHMARK_CAPTURE(Update, adamw_8bit, "adamw_8bit", "")->UseRealTime();
BENCHMARK_CAPTURE(Update, adam, "adam", "")->UseRealTime();
BENCHMARK_CAPTURE(Update, momentum, "sgd", "momentum=0.9")->UseRealTime();
BENCHMARK_CAPTURE(Update, lion, "lion_32bit", "")->UseRealTime();
BENCHMARK_CAPTURE(Update, lion_8bit, "lion_8bit", "")->UseRealTime();
BENCHMARK_CAPTURE(Update, muon, "muon", "")->UseRealTime();
BENCHMARK_CAPTURE(Update, adafactor, "adafactor", "")->UseRealTime();

}  // namespace
}  // namespace lathe
