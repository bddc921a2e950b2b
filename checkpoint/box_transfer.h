#ifndef LATHE_CHECKPOINT_BOX_TRANSFER_H_
#define LATHE_CHECKPOINT_BOX_TRANSFER_H_

// Moves one box of a row-major tensor between a file and memory, converting the dtype on the way,
// with a staging buffer of 1 MiB whatever the size of the tensor.
//
// Copies go through pread and pwrite, not through a mapping of the file: a file that another
// process truncates then gives an error instead of a SIGBUS, a full disk gives ENOSPC instead of a
// SIGBUS, and pread into the destination is one copy without page faults.
//
// Thread rule: calls on disjoint boxes may run side by side.

#include <cstdint>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/status.h"
#include "lathe/base/box.h"
#include "lathe/checkpoint/piecewise_crc32c.h"
#include "lathe/checkpoint/posix_file.h"

namespace lathe {

// A whole tensor inside a file.
struct StoredTensor {
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  uint64_t offset = 0;  // of its first byte in the file
};

// Box `box` of `stored` → `destination`, of shape `box.length`; any strides, dtype and device.
// Reads the box's bytes and gaps of up to 4 KiB between them, nothing else.
// Errors: InvalidArgument when the box is not inside the tensor, the shapes differ or the
// conversion would lose the kind (float to integer, complex to real); DataLoss when the file is too
// short.
absl::Status ReadBox(const PosixFile& file, const StoredTensor& stored, const Box& box,
                     at::Tensor destination);

// `source`, of shape `box.length`, → box `box` of `stored`. Writes exactly the box's bytes, rounded
// to nearest even where the file's dtype is narrower, and adds them to `checksum`.
// Errors: as ReadBox; ResourceExhausted on a full disk.
absl::Status WriteBox(const PosixFile& file, const StoredTensor& stored, const Box& box,
                      const at::Tensor& source, PiecewiseCrc32c& checksum);

}  // namespace lathe

#endif  // LATHE_CHECKPOINT_BOX_TRANSFER_H_
