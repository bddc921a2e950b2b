#ifndef LATHE_CHECKPOINT_PIECEWISE_CRC32C_H_
#define LATHE_CHECKPOINT_PIECEWISE_CRC32C_H_

// The CRC-32C of a file that several ranks write in pieces, in any order, from the bytes in memory,
// so that nobody reads the file back. A CRC is linear: up to constants, that of a file is the
// exclusive or of those of its pieces, each alone in a file of zeros.
//
//   PiecewiseCrc32c mine(file_bytes);
//   mine.Add(offset, bytes);                     // for every piece that this rank writes
//   all.Merge(theirs);                           // another rank's
//   if (all.num_bytes() == file_bytes) all.Total();   // equals absl::ComputeCrc32c(whole file)
//
// Thread rule: a value; one thread at a time.

#include <cstdint>
#include <string_view>

#include "absl/crc/crc32c.h"

namespace lathe {

class PiecewiseCrc32c {
 public:
  explicit PiecewiseCrc32c(uint64_t file_bytes) : file_bytes_(file_bytes) {}

  // From the numbers that another rank sent.
  PiecewiseCrc32c(uint64_t file_bytes, uint64_t num_bytes, uint32_t contribution)
      : file_bytes_(file_bytes), num_bytes_(num_bytes), contribution_(contribution) {}

  // `piece` lies at `offset`. Pieces must not overlap.
  void Add(uint64_t offset, std::string_view piece);

  // The pieces of `other`, of a file of the same size.
  void Merge(const PiecewiseCrc32c& other);

  uint64_t file_bytes() const { return file_bytes_; }
  uint64_t num_bytes() const { return num_bytes_; }  // in all pieces so far
  uint32_t contribution() const { return contribution_; }

  // Valid once the pieces cover the file.
  absl::crc32c_t Total() const;

 private:
  uint64_t file_bytes_;
  uint64_t num_bytes_ = 0;
  uint32_t contribution_ = 0;
};

}  // namespace lathe

#endif  // LATHE_CHECKPOINT_PIECEWISE_CRC32C_H_
