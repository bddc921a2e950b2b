// What ZeroOptimizer is made of; for its own source files.
#ifndef LATHE_ZERO_ZERO_OPTIMIZER_PARTS_H_
#define LATHE_ZERO_ZERO_OPTIMIZER_PARTS_H_

#include <memory>
#include <vector>

#include "ATen/core/Tensor.h"
#include "lathe/comm/communicator.h"
#include "lathe/layers/parameter.h"
#include "lathe/zero/disk_store.h"
#include "lathe/zero/flat_layout.h"
#include "lathe/zero/flat_weights.h"
#include "lathe/zero/zero_optimizer.h"

namespace lathe {

// The blocks of kStateBlock elements that a range has, which starts with one.
inline FlatRange BlocksOf(const FlatRange& range) {
  return {range.begin / kStateBlock, (range.end + kStateBlock - 1) / kStateBlock};
}

struct ZeroOptimizer::Slot {
  struct Cut {
    FlatRange range;  // of `held`'s elements
    int shard = 0;    // whose it is
  };

  Parameter* parameter = nullptr;
  bool decays = false;
  const UpdateRule* rule = nullptr;  // null for a frozen parameter
  Bucket* bucket = nullptr;          // null for a frozen parameter that is whole
  FlatRange place;                   // in its bucket
  FlatRange held;                    // of the parameter's own elements: those that this rank steps
  FlatRange part;                    // the same, of the bucket's `own`
  std::vector<Cut> cuts;             // `held` at the shards' bounds
  // [held.size()], views of the bucket's. Of a frozen parameter only the weights.
  at::Tensor weight, grad, master;
  std::vector<at::Tensor> states;  // as the rule names them; empty where nothing is held

  // State i of the piece that lies at `range` of a stretch, which has `flat` of the state.
  at::Tensor PieceState(size_t i, const at::Tensor& flat, const FlatRange& range) const;
};

// Elements of a bucket's `own` in memory, with what an update changes: all of them, or those that a
// buffer holds.
struct ZeroOptimizer::Stretch {
  FlatRange range;  // of `own`
  at::Tensor grads, masters;
  std::vector<at::Tensor> states;
};

struct ZeroOptimizer::Bucket {
  FlatBucket layout;
  std::vector<Slot*> slots;
  const UpdateRule* rule = nullptr;  // of all of them; null if they are frozen
  FlatRange own;                     // what this rank steps: its shard, or all
  // [elements]: what the parameters, and their gradients, are views of. Where gradients are
  // sharded, `grads` is there only while a micro batch fills it; where weights are, `weights` has
  // memory only while `flat` is gathered.
  at::Tensor weights, grads;
  std::unique_ptr<FlatWeights> flat;  // where weights are sharded
  // [own.size()]. `own_weights` is a view of `weights` unless those are sharded, `masters` the same
  // tensor unless weights are half precision, `own_grads` a view of `grads` unless gradients are
  // sharded.
  at::Tensor own_weights, own_grads, masters;
  // As the rule names them; undefined where a state is by row or column: slots have those.
  std::vector<at::Tensor> states;
  // Where those are that are on a disk.
  DiskTensor masters_on_disk;
  std::vector<DiskTensor> states_on_disk;

  // Whether masters are not the weights themselves.
  bool has_masters() const { return !masters.is_same(own_weights); }

  int pending = 0;             // slots that are not ready yet
  PendingCollective sum;       // of all of `grads`
  PendingTensor shard_sum;     // of this rank's shard
  bool has_own_grads = false;  // of this update
};

}  // namespace lathe

#endif  // LATHE_ZERO_ZERO_OPTIMIZER_PARTS_H_
