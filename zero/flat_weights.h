// FlatWeights: one flat tensor of weights of which each data-parallel rank keeps its shard, and
// whose whole is in memory only between a gather and its release.
//
//   FlatWeights flat(/*elements=*/1 << 20, at::TensorOptions().dtype(at::kBFloat16), dp);
//   at::Tensor weight = flat.whole().narrow(0, 0, 4096).view({64, 64});   // a parameter
//   flat.StartGather();   // asynchronous
//   flat.FinishGather();  // now `weight` may be read
//   flat.Release();       // its memory is gone, the view stays
//
// The shard may be in the host's memory or on a disk instead of the device's. Views of the whole
// share its storage, so that all of them, autograd's included, see the memory
// that the next gather brings. While it is released, reading one is a null pointer. Thread rule:
// used by the thread that trains; gathers run on the communicator's.
#ifndef LATHE_ZERO_FLAT_WEIGHTS_H_
#define LATHE_ZERO_FLAT_WEIGHTS_H_

#include <cstdint>

#include "ATen/core/Tensor.h"
#include "lathe/comm/communicator.h"
#include "lathe/zero/disk_store.h"

namespace lathe {

class FlatWeights {
 public:
  // Where the shard is.
  struct Place {
    c10::Device device = at::kCPU;  // that of the whole, or the host's
    bool pinned = false;            // host memory that the device reads without a copy
    DiskStore* disk = nullptr;      // there, if not null
  };

  // `elements` divides by dp's size; `options`: dtype and device of the whole. The shards start at
  // 0.
  FlatWeights(int64_t elements, at::TensorOptions options, const Communicator& dp,
              const Place& own_place);
  FlatWeights(const FlatWeights&) = delete;

  int64_t elements() const { return whole_.numel(); }
  // [elements], without memory unless gathered.
  const at::Tensor& whole() const { return whole_; }
  // [elements / ranks]: what this rank keeps; a mapping if that is on a disk, at `own_on_disk`.
  const at::Tensor& own() const { return own_; }
  const DiskTensor& own_on_disk() const { return own_on_disk_; }

  // Whether a gather was started and not released.
  bool gathered() const { return gathered_; }
  // Collective: all ranks in one order. Throws CollectiveError, from FinishGather.
  void StartGather();
  // From a disk only the reading is asynchronous.
  void FinishGather();
  void Release();

 private:
  void SetMemory(const at::Tensor& memory);

  const Communicator& dp_;
  at::Tensor whole_, own_;
  DiskTensor own_on_disk_;
  at::Tensor read_;  // what is being read
  PendingTransfer reading_;
  bool gathered_ = false;
  PendingCollective pending_;
};

}  // namespace lathe

#endif  // LATHE_ZERO_FLAT_WEIGHTS_H_
