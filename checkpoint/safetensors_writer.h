#ifndef LATHE_CHECKPOINT_SAFETENSORS_WRITER_H_
#define LATHE_CHECKPOINT_SAFETENSORS_WRITER_H_

// The bytes of safetensors files, known before the first is written: from names, dtypes and shapes
// alone every rank computes the same layout, so that each writes its boxes into the same
// preallocated file.
//
//   ABSL_ASSIGN_OR_RETURN(SafetensorsLayout layout, SafetensorsLayout::Create(
//       {{"w", at::kBFloat16, {16, 64}}, {"b", at::kBFloat16, {16}}}));
//   file.Allocate(layout.file_bytes()); file.WriteAt(0, layout.header());      // one rank
//   layout.WriteBox(file, "w", {{8, 0}, {8, 64}}, my_rows_in_fp32, checksum);  // every rank
//
// A layout equals what the reference implementation writes for the same tensors, byte for byte.
//
// Thread rule: values; const calls from any number of threads.

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "lathe/base/box.h"
#include "lathe/checkpoint/piecewise_crc32c.h"
#include "lathe/checkpoint/posix_file.h"
#include "lathe/checkpoint/safetensors_header.h"

namespace lathe {

struct TensorSpec {
  std::string name;
  at::ScalarType dtype;
  std::vector<int64_t> shape;
};

class SafetensorsLayout {
 public:
  // The order of `specs` does not matter.
  // Errors: InvalidArgument for two tensors of one name, a name that is "__metadata__" or not
  // UTF-8, a dtype that the format does not have, a negative or overflowing shape, a header above
  // 100 MB.
  static absl::StatusOr<SafetensorsLayout> Create(absl::Span<const TensorSpec> specs);

  // The first bytes of the file: length, JSON with {"format": "pt"} (transformers refuses files
  // without it), padding to a multiple of 8.
  const std::string& header() const { return header_; }
  uint64_t file_bytes() const { return file_bytes_; }

  // Sorted by name, offsets from the start of the file.
  const SafetensorsTensors& tensors() const { return tensors_; }

  // Writes `tensor`, of shape `box.length` and any strides, dtype and device, as box `box` of
  // tensor `name`, converted to the layout's dtype, and adds its bytes to `checksum`.
  // Errors: NotFound for an unknown name; InvalidArgument when box and shapes do not fit or the
  // conversion loses the kind; ResourceExhausted on a full disk.
  absl::Status WriteBox(const PosixFile& file, std::string_view name, const Box& box,
                        const at::Tensor& tensor, PiecewiseCrc32c& checksum) const;

 private:
  std::string header_;
  uint64_t file_bytes_ = 0;
  SafetensorsTensors tensors_;
};

// Hugging Face's default since transformers 5.
inline constexpr uint64_t kDefaultMaxShardBytes = 50'000'000'000;

// A set of tensors as files of one folder: STEM.safetensors, or shards and an index.
struct ShardedLayout {
  struct File {
    std::string name;
    SafetensorsLayout layout;
  };
  std::vector<File> files;
  std::map<std::string, int, std::less<>> file_of_tensor;  // index into `files`
  std::string index_name;                                  // empty for a single file
  std::string index_json;
};

// Fills shards in the natural order of names ("layers.2" before "layers.10") up to
// `max_shard_bytes` of data each; a larger tensor gets a shard of its own. No tensors give one file
// without any.
// Errors: as SafetensorsLayout::Create.
absl::StatusOr<ShardedLayout> PlanShards(absl::Span<const TensorSpec> specs, std::string_view stem,
                                         uint64_t max_shard_bytes = kDefaultMaxShardBytes);

// Writes whole tensors of one process as a file at `path`, which is complete or absent (or what it
// was).
// Errors: as SafetensorsLayout::Create and what the system says.
absl::Status WriteSafetensorsFile(const std::string& path,
                                  const std::map<std::string, at::Tensor, std::less<>>& tensors);

}  // namespace lathe

#endif  // LATHE_CHECKPOINT_SAFETENSORS_WRITER_H_
