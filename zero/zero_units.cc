#include "lathe/zero/zero_units.h"

#include <algorithm>

#include "c10/util/Exception.h"

namespace lathe {

std::vector<int> ZeroUnits::Of(const std::vector<Parameter*>& parameters) const {
  std::vector<int> units;
  if (units_.empty()) return units;
  for (const Parameter* parameter : parameters) {
    const int unit = parameter->unit();
    if (!units_.contains(unit)) continue;
    if (std::find(units.begin(), units.end(), unit) == units.end()) units.push_back(unit);
  }
  return units;
}

void ZeroUnits::Add(int unit, FlatWeights* flat) {
  Unit& to = units_[unit];
  to.parts.push_back(flat);
  to.elements += flat->elements();
}

void ZeroUnits::Seal() {
  std::vector<Unit*> small;
  for (auto& [number, unit] : units_) {
    if (unit.elements <= options_.persistence_threshold) small.push_back(&unit);
  }
  std::stable_sort(small.begin(), small.end(),
                   [](const Unit* a, const Unit* b) { return a->elements < b->elements; });
  int64_t total = 0;
  for (Unit* unit : small) {
    total += unit->elements;
    if (total > options_.model_persistence_threshold) break;
    unit->persists = true;
  }
}

void ZeroUnits::StartGather(Unit& unit) {
  if (unit.gathered) return;
  unit.gathered = true;
  if (!unit.persists) live_elements_ += unit.elements;
  for (FlatWeights* part : unit.parts) part->StartGather();
}

void ZeroUnits::LetGo(Unit& unit) {
  if (!unit.gathered) return;
  unit.gathered = false;
  if (!unit.persists) live_elements_ -= unit.elements;
  for (FlatWeights* part : unit.parts) part->Release();
}

int64_t ZeroUnits::live_bytes() const {
  int64_t bytes = 0;
  for (const auto& [number, unit] : units_) {
    if (!unit.gathered || unit.persists) continue;
    for (const FlatWeights* part : unit.parts)
      bytes += static_cast<int64_t>(part->whole().nbytes());
  }
  return bytes;
}

void ZeroUnits::Acquire(int number, Pass pass) {
  Unit& unit = units_.at(number);
  ++unit.uses;
  StartGather(unit);
  Use use{kStart, number, pass};
  if (last_ && last_->pass == pass) {
    next_[*last_] = number;
    use.before = last_->number;
  }
  last_ = use;
  Prefetch(use);
  for (FlatWeights* part : unit.parts) part->FinishGather();
}

void ZeroUnits::Prefetch(Use use) {
  int64_t ahead = 0;
  // A cycle of uses ends where it began.
  for (size_t steps = 0; steps < units_.size(); ++steps) {
    const auto next = next_.find(use);
    if (next == next_.end()) return;
    use = {use.number, next->second, use.pass};
    Unit& unit = units_.at(use.number);
    if (unit.gathered) continue;
    ahead += unit.elements;
    if (ahead > options_.prefetch_elements ||
        live_elements_ + unit.elements > options_.max_live_elements) {
      return;
    }
    StartGather(unit);
  }
}

void ZeroUnits::Release(int number) {
  Unit& unit = units_.at(number);
  // EndUpdate has let go of what a backward that never came would have.
  if (unit.uses > 0) --unit.uses;
  if (unit.uses > 0 || unit.persists) return;
  const bool stays =
      options_.reshard == Reshard::kNever ||
      (options_.reshard == Reshard::kAuto && live_elements_ <= options_.max_live_elements);
  if (keeps_ && stays) return;
  LetGo(unit);
}

void ZeroUnits::BeginMicroBatch(bool only) {
  last_.reset();
  keeps_ = options_.reshard == Reshard::kNever || (options_.reshard == Reshard::kAuto && !only);
}

void ZeroUnits::EndUpdate() {
  last_.reset();
  keeps_ = false;
  for (auto& [number, unit] : units_) {
    unit.uses = 0;
    if (!unit.persists) LetGo(unit);
  }
}

void ZeroUnits::Refresh() {
  EndUpdate();
  for (auto& [number, unit] : units_) {
    if (!unit.persists) continue;
    LetGo(unit);
    StartGather(unit);
  }
  for (auto& [number, unit] : units_) {
    if (!unit.persists) continue;
    for (FlatWeights* part : unit.parts) part->FinishGather();
  }
}

GatheredParameters::GatheredParameters(ZeroUnits& units, const std::vector<Parameter*>& parameters)
    : units_(units), held_(units.Of(parameters)) {
  for (const int unit : held_) units_.Acquire(unit, ZeroUnits::Pass::kEvaluation);
}

GatheredParameters::~GatheredParameters() {
  for (const int unit : held_) units_.Release(unit);
}

}  // namespace lathe
