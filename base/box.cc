#include "lathe/base/box.h"

#include <algorithm>

#include "absl/log/absl_check.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace lathe {

Box Box::Whole(absl::Span<const int64_t> shape) {
  return Box{std::vector<int64_t>(shape.size(), 0),
             std::vector<int64_t>(shape.begin(), shape.end())};
}

int64_t Box::Volume() const {
  int64_t volume = 1;
  for (int64_t n : length) volume *= n;
  return volume;
}

bool Box::Empty() const {
  return std::any_of(length.begin(), length.end(), [](int64_t n) { return n <= 0; });
}

bool Box::Contains(const Box& inner) const {
  ABSL_CHECK_EQ(num_dims(), inner.num_dims());
  if (inner.Empty()) return true;
  for (int d = 0; d < num_dims(); ++d) {
    if (inner.offset[d] < offset[d]) return false;
    if (inner.offset[d] + inner.length[d] > offset[d] + length[d]) return false;
  }
  return true;
}

std::string Box::ToString() const {
  std::vector<std::string> dims;
  for (int d = 0; d < num_dims(); ++d) {
    dims.push_back(absl::StrCat(offset[d], ":", offset[d] + length[d]));
  }
  return absl::StrCat("[", absl::StrJoin(dims, ", "), "]");
}

std::optional<Box> Intersect(const Box& a, const Box& b) {
  ABSL_CHECK_EQ(a.num_dims(), b.num_dims());
  Box common = Box::Whole(a.length);
  for (int d = 0; d < a.num_dims(); ++d) {
    const int64_t begin = std::max(a.offset[d], b.offset[d]);
    const int64_t end = std::min(a.offset[d] + a.length[d], b.offset[d] + b.length[d]);
    if (begin >= end) return std::nullopt;
    common.offset[d] = begin;
    common.length[d] = end - begin;
  }
  return common;
}

Box RelativeTo(const Box& box, const Box& origin) {
  ABSL_CHECK_EQ(box.num_dims(), origin.num_dims());
  Box relative = box;
  for (int d = 0; d < box.num_dims(); ++d) relative.offset[d] -= origin.offset[d];
  return relative;
}

void ForEachRun(const Box& part, const Box& whole,
                absl::FunctionRef<void(int64_t start, int64_t count)> run) {
  ABSL_CHECK(whole.Contains(part)) << part.ToString() << " in " << whole.ToString();
  if (part.Empty()) return;
  const Box local = RelativeTo(part, whole);
  const int num_dims = local.num_dims();

  // Dims from `joined` on are covered whole, hence contiguous; the dim before them still gives one
  // stretch, since its elements of a single index are adjacent.
  int joined = num_dims;
  int64_t count = 1;
  while (joined > 0) {
    --joined;
    count *= local.length[joined];
    if (local.length[joined] != whole.length[joined]) break;
  }
  std::vector<int64_t> stride(num_dims, 1);
  for (int d = num_dims - 2; d >= 0; --d) stride[d] = stride[d + 1] * whole.length[d + 1];

  std::vector<int64_t> index(joined, 0);
  while (true) {
    int64_t start = joined < num_dims ? local.offset[joined] * stride[joined] : 0;
    for (int d = 0; d < joined; ++d) start += (local.offset[d] + index[d]) * stride[d];
    run(start, count);
    int d = joined - 1;
    while (d >= 0 && ++index[d] == local.length[d]) index[d--] = 0;
    if (d < 0) return;
  }
}

absl::StatusOr<int64_t> CheckedVolume(absl::Span<const int64_t> shape) {
  bool empty = false;
  for (int64_t n : shape) {
    if (n < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("shape [", absl::StrJoin(shape, ", "), "] has a negative size"));
    }
    if (n == 0) empty = true;
  }
  if (empty) return 0;
  int64_t volume = 1;
  for (int64_t n : shape) {
    if (__builtin_mul_overflow(volume, n, &volume)) {
      return absl::InvalidArgumentError(absl::StrCat("shape [", absl::StrJoin(shape, ", "),
                                                     "] has more elements than 64 bits can count"));
    }
  }
  return volume;
}

}  // namespace lathe
