#ifndef LATHE_CHECKPOINT_CHECKPOINT_H_
#define LATHE_CHECKPOINT_CHECKPOINT_H_

// Named boxes ↔ folder: what any layout of ranks saved, any other loads, with no conversion
// between. Files hold whole logical tensors by name; a rank says which boxes of them its memory
// holds.
//
//   // Rank 1 of 2 holds rows 8 to 16 of a [16, 64] matrix, in fp32, and saves it in bf16:
//   NamedTensor w{.name = "lm_head.weight", .full_shape = {16, 64}, .file_dtype = at::kBFloat16,
//                 .pieces = {{.box = {{8, 0}, {8, 64}}, .local = rows}}};
//   ABSL_RETURN_IF_ERROR(SaveTensors(*directory, "model", {w}));        // atomic_directory.h
//
//   ABSL_ASSIGN_OR_RETURN(ModelFiles files, ModelFiles::Open("out/checkpoint-100"));
//   ABSL_RETURN_IF_ERROR(LoadTensors(files, {w}));                      // reads only these rows
//
// Weights go to "model" under Hugging Face's names; optimizer states to "optimizer" as
// PARAMETER.exp_avg, PARAMETER.exp_avg_sq and, where the fp32 master says more than the weight's
// dtype, PARAMETER.master.
//
// Thread rule: SaveTensors is collective, one thread per rank; LoadTensors is local and may run
// beside others that fill other tensors.

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "lathe/base/box.h"
#include "lathe/checkpoint/atomic_directory.h"
#include "lathe/checkpoint/model_files.h"
#include "lathe/checkpoint/rank_group.h"
#include "lathe/checkpoint/safetensors_writer.h"

namespace lathe {

// A part of a logical tensor that lies in this rank's memory.
struct TensorPiece {
  Box box;           // in the logical tensor
  at::Tensor local;  // of shape `box.length`: a view, with any strides, dtype and device
};

struct NamedTensor {
  std::string name;
  std::vector<int64_t> full_shape;
  // What it is saved as. Loading converts from whatever the file has.
  at::ScalarType file_dtype = at::ScalarType::Float;
  // Ranks that hold the same pieces number themselves; 0 saves, all load.
  int replica = 0;
  // Disjoint. Over all ranks, the pieces of the replicas 0 cover the tensor exactly once.
  std::vector<TensorPiece> pieces = {};
};

// Collective. Writes all ranks' tensors as STEM.safetensors in `directory`, or as shards with an
// index where they pass `max_shard_bytes`. A rank that holds no part of a tensor need not list it.
// Errors (the same on all ranks, and kept in `directory`): InvalidArgument naming the tensor when
// ranks disagree about a shape or dtype, when pieces overlap, leave a part uncovered or pass the
// shape, and when a dtype cannot be converted; ResourceExhausted on a full disk; what the system
// says.
absl::Status SaveTensors(AtomicDirectory& directory, std::string_view stem,
                         absl::Span<const NamedTensor> tensors,
                         uint64_t max_shard_bytes = kDefaultMaxShardBytes);

// Collective. The names of all ranks' tensors: what may be in a folder besides a rank's own.
std::set<std::string, std::less<>> NamesOnAllRanks(const RankGroup& ranks,
                                                   absl::Span<const NamedTensor> tensors);

struct LoadOptions {
  // Says which tensors may be in the files although this rank did not ask for them: other pipeline
  // stages', a tied head's. None by default.
  std::function<bool(std::string_view name)> surplus_ok = nullptr;
  // Says which tensors may be absent from the files; their memory is left as it is. None by
  // default.
  std::function<bool(std::string_view name)> missing_ok = nullptr;
};

// Fills every piece of `tensors` from `files`, whatever the replica. Nothing is read before
// everything is found to fit, and of each tensor only the pieces' part of the file.
// Errors: InvalidArgument as "FILE does not fit: ..." with the missing, the surplus, the wrongly
// shaped (with expected and found shape) and the unconvertible tensors, up to ten of each; what
// reading them says.
absl::Status LoadTensors(const ModelFiles& files, absl::Span<const NamedTensor> tensors,
                         const LoadOptions& options = {});

// The elements `begin` to `end` of `box` in row-major order, as boxes of the logical tensor in that
// order: what a rank owns that holds a range of a flattened shard. `flat`, of shape [end - begin],
// holds the values; the pieces are views of it.
std::vector<TensorPiece> PiecesOfRange(const Box& box, int64_t begin, int64_t end,
                                       const at::Tensor& flat);

}  // namespace lathe

#endif  // LATHE_CHECKPOINT_CHECKPOINT_H_
