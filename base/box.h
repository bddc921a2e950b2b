#ifndef LATHE_BASE_BOX_H_
#define LATHE_BASE_BOX_H_

// A Box is an axis-aligned block of a tensor: for every dim where it starts and how many elements
// it has. Which part of a parameter a rank holds, and which bytes of a file that is, are both said
// in boxes of the whole logical tensor.
//
//   // Rank 1 of 2 of a [6, 4] matrix split by rows.
//   Box whole = Box::Whole({6, 4});
//   Box mine = {.offset = {3, 0}, .length = {3, 4}};
//   mine.Volume();                             // 12
//   *Intersect(mine, {{2, 1}, {2, 2}});        // {{3, 1}, {1, 2}}
//   ForEachRun(mine, whole, copy);             // copy(start = 12, count = 12)
//
// Pure arithmetic on values: nothing is allocated for the tensor and nothing is shared, so every
// function may be called from any thread. All functions that take two boxes need the same number of
// dims in both (CHECKed: a mismatch is a programmer's error). A scalar is a box of no dims and of
// volume 1.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace lathe {

struct Box {
  std::vector<int64_t> offset;
  std::vector<int64_t> length;

  // The box that covers a tensor of this shape.
  static Box Whole(absl::Span<const int64_t> shape);

  int num_dims() const { return static_cast<int>(length.size()); }

  // Number of elements. The caller guarantees that it fits (see CheckedVolume for foreign shapes).
  int64_t Volume() const;

  // True when some dim has no elements.
  bool Empty() const;

  // True when every element of `inner` lies in this box. An empty box lies in every box.
  bool Contains(const Box& inner) const;

  // "[3:6, 0:4]", for messages.
  std::string ToString() const;

  friend bool operator==(const Box&, const Box&) = default;
};

// The elements that lie in both, or nullopt when there are none.
std::optional<Box> Intersect(const Box& a, const Box& b);

// The same elements as `box`, with offsets counted from the start of `origin`: what to slice out of
// a local tensor that holds `origin`.
Box RelativeTo(const Box& box, const Box& origin);

// Calls run(start, count) for every maximal contiguous stretch of `part` inside a row-major buffer
// that holds `whole`, in increasing order of start; both are in elements. `part` must lie in
// `whole`. Whole trailing dims are joined, so that a split of the first dim is a single run.
void ForEachRun(const Box& part, const Box& whole,
                absl::FunctionRef<void(int64_t start, int64_t count)> run);

// The product of a shape that comes from a file.
// Errors: InvalidArgument when a dim is negative or the product is beyond int64.
absl::StatusOr<int64_t> CheckedVolume(absl::Span<const int64_t> shape);

}  // namespace lathe

#endif  // LATHE_BASE_BOX_H_
