#ifndef LATHE_CHECKPOINT_SAFETENSORS_HEADER_H_
#define LATHE_CHECKPOINT_SAFETENSORS_HEADER_H_

// The JSON header of a safetensors file, parsed as hostile input: what comes out of here is safe to
// turn into reads and allocations. docs/checkpoint_format.md describes the bytes.
//
// Thread rule: values and pure functions.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "c10/core/ScalarType.h"

namespace lathe {

struct SafetensorsTensor {
  at::ScalarType dtype;
  std::vector<int64_t> shape;  // empty for a scalar
  uint64_t offset = 0;         // of the first byte; in a parsed header from the end of the header
  uint64_t num_bytes = 0;

  friend bool operator==(const SafetensorsTensor&, const SafetensorsTensor&) = default;
};

using SafetensorsTensors = std::map<std::string, SafetensorsTensor, std::less<>>;

struct SafetensorsHeader {
  SafetensorsTensors tensors;
  std::map<std::string, std::string> metadata;
};

// Headers above this are refused, as the reference implementation does.
inline constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;

// Parses and checks a header against the `data_bytes` that follow it in the file.
// Returns tensors that tile [0, data_bytes) exactly, each as long as its dtype and shape say.
// Errors: InvalidArgument, one line naming the tensor and what is wrong with it: anything but the
// fixed form (duplicate, unknown or missing keys, wrong kinds, negative numbers, more than 64
// dims), an unknown dtype, a shape whose product overflows, an offset pair that is reversed, does
// not fit the shape or passes the end, overlaps, and bytes that belong to no tensor.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json,
                                                         uint64_t data_bytes);

// "F32" and so on; nullopt for an at::ScalarType that the format does not have.
std::optional<std::string_view> SafetensorsDtypeName(at::ScalarType dtype);

// The other direction. nullopt for names that are unknown or that PyTorch cannot hold (sub-byte
// types).
std::optional<at::ScalarType> SafetensorsDtype(std::string_view name);

// The place of a dtype in the order in which the reference implementation sorts tensors: larger
// first.
int SafetensorsDtypeOrder(at::ScalarType dtype);

}  // namespace lathe

#endif  // LATHE_CHECKPOINT_SAFETENSORS_HEADER_H_
