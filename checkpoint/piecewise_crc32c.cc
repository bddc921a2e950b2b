#include "lathe/checkpoint/piecewise_crc32c.h"

#include "lathe/base/logging.h"

namespace lathe {
namespace {

// The CRC of `length` zero bytes: what the CRC's initial value and final complement contribute.
uint32_t ZerosCrc(uint64_t length) {
  return static_cast<uint32_t>(absl::ExtendCrc32cByZeroes(absl::crc32c_t{0}, length));
}

}  // namespace

void PiecewiseCrc32c::Add(uint64_t offset, std::string_view piece) {
  CHECK_LE(offset, file_bytes_);
  CHECK_LE(piece.size(), file_bytes_ - offset);
  const uint64_t behind = file_bytes_ - offset - piece.size();
  const absl::crc32c_t extended = absl::ExtendCrc32cByZeroes(absl::ComputeCrc32c(piece), behind);
  contribution_ ^= static_cast<uint32_t>(extended) ^ ZerosCrc(piece.size() + behind);
  num_bytes_ += piece.size();
}

void PiecewiseCrc32c::Merge(const PiecewiseCrc32c& other) {
  CHECK_EQ(file_bytes_, other.file_bytes_);
  contribution_ ^= other.contribution_;
  num_bytes_ += other.num_bytes_;
}

absl::crc32c_t PiecewiseCrc32c::Total() const {
  return absl::crc32c_t{contribution_ ^ ZerosCrc(file_bytes_)};
}

}  // namespace lathe
