// ZeroUnits: which parts of the model (units: an embedding, a block, a head) are whole on this rank
// at a time under ZeRO stage 3, and when they are gathered and let go.
//
//   ZeroUnits units({.prefetch_elements = 50'000'000, .reshard = Reshard::kAuto});
//   UnitRunner runner(units, plain);                                  // gathers around each block
//   auto stage = BuildModel(config, context, at::kBFloat16, runner);
//   ZeroOptimizer optimizer(stage->parameters(), {.stage = 3}, context, &units);
//   { GatheredParameters whole(units, stage->parameters()); ... }     // to look at all weights
//
// Below stage 3, and on one data-parallel rank, there is nothing to gather: every call returns at
// once. Gathers are prefetched in the order in which the last pass of the same kind needed them.
//
// Thread rule: used by the thread that trains. Collective: the data-parallel ranks make the same
// calls in the same order.
//
// Source: Rajbhandari et al., ZeRO (2019), section 5.3; DeepSpeed's stage3_* settings, whose
// persistence and live limits count here whole units, since a unit is gathered at once.
#ifndef LATHE_ZERO_ZERO_UNITS_H_
#define LATHE_ZERO_ZERO_UNITS_H_

#include <compare>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <vector>

#include "lathe/layers/parameter.h"
#include "lathe/zero/flat_weights.h"

namespace lathe {

// Whether a unit is let go after its forward, to be gathered again for backward.
enum class Reshard {
  kAuto,    // unless the update has several micro batches or the model is a pipeline, in which case
            // what has been gathered stays until the update's end, as far as the live limit allows
  kAlways,  // least memory: 3 P (N − 1) / N elements sent per micro batch
  kNever,   // what has been gathered stays until the update's end, whatever the live limit
};

struct UnitOptions {
  Reshard reshard = Reshard::kAuto;
  int64_t prefetch_elements = 50'000'000;  // gathered ahead
  // Units of at most so many elements are never let go, the smallest first while all of them
  // together have at most model_persistence_threshold.
  int64_t persistence_threshold = 100'000;
  int64_t model_persistence_threshold = std::numeric_limits<int64_t>::max();
  // Elements gathered at a time beyond which nothing is prefetched and kAuto keeps nothing.
  int64_t max_live_elements = 1'000'000'000;
};

class ZeroUnits {
 public:
  // What a unit is gathered for; each kind of pass has its own order.
  enum class Pass { kForward, kBackward, kEvaluation };

  explicit ZeroUnits(const UnitOptions& options) : options_(options) {}
  ZeroUnits(const ZeroUnits&) = delete;

  // The units that some of these parameters are of and that are sharded, each once.
  std::vector<int> Of(const std::vector<Parameter*>& parameters) const;

  // Makes a unit whole; it stays so at least until as many Releases. Throws CollectiveError.
  void Acquire(int unit, Pass pass);
  void Release(int unit);

  // Of weights that are whole now and will not stay so.
  int64_t live_bytes() const;

  // The rest is ZeroOptimizer's. `flat` is a part of a unit; it must outlive this object's use.
  void Add(int unit, FlatWeights* flat);
  // All parts are added.
  void Seal();
  // `only`: no other micro batch is in this update, nor in flight.
  void BeginMicroBatch(bool only);
  // Lets go of everything but what persists.
  void EndUpdate();
  // The shards have changed: what persists is gathered anew.
  void Refresh();

 private:
  struct Unit {
    std::vector<FlatWeights*> parts;
    int64_t elements = 0;
    int uses = 0;  // Acquire without Release
    bool persists = false;
    bool gathered = false;
  };
  // With the unit used before it in the pass, since tied weights are used twice in one.
  struct Use {
    int before, number;
    Pass pass;
    auto operator<=>(const Use&) const = default;
  };
  static constexpr int kStart = -1;  // no unit: a pass begins

  void StartGather(Unit& unit);
  void LetGo(Unit& unit);
  void Prefetch(Use use);

  const UnitOptions options_;
  std::map<int, Unit> units_;
  bool keeps_ = false;         // in this update, as far as the live limit allows
  int64_t live_elements_ = 0;  // of gathered units that do not persist
  std::map<Use, int> next_;    // the unit that followed a use last time
  std::optional<Use> last_;    // of this micro batch
};

// Holds the units of these parameters whole while it lives.
class GatheredParameters {
 public:
  GatheredParameters(ZeroUnits& units, const std::vector<Parameter*>& parameters);
  ~GatheredParameters();
  GatheredParameters(const GatheredParameters&) = delete;

 private:
  ZeroUnits& units_;
  const std::vector<int> held_;
};

}  // namespace lathe

#endif  // LATHE_ZERO_ZERO_UNITS_H_
