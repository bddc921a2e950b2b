#include "lathe/checkpoint/box_transfer.h"

#include <algorithm>
#include <bit>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "ATen/ops/from_blob.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "c10/core/GradMode.h"
#include "c10/core/ScalarType.h"

namespace lathe {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

// Fits the second-level cache, between the file and the conversion or the checksum.
constexpr int64_t kStagingBytes = int64_t{1} << 20;
// Reading through a gap of this size costs less than a system call of its own.
constexpr int64_t kMaxGapBytes = int64_t{4} << 10;

std::string ShapeText(absl::Span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

absl::Status CheckTransfer(const StoredTensor& stored, const Box& box, const at::Tensor& tensor,
                           at::ScalarType from, at::ScalarType to) {
  const Box whole = Box::Whole(stored.shape);
  if (box.num_dims() != whole.num_dims() || box.offset.size() != box.length.size() ||
      !whole.Contains(box)) {
    return absl::InvalidArgumentError(
        absl::StrCat("box ", box.ToString(), " is not inside shape ", ShapeText(stored.shape)));
  }
  const absl::Span<const int64_t> sizes(tensor.sizes().data(), tensor.sizes().size());
  if (sizes != absl::MakeConstSpan(box.length)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a tensor of shape ", ShapeText(sizes), " stands for box ", box.ToString()));
  }
  if (!c10::canCast(from, to)) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot convert ", c10::toString(from), " to ", c10::toString(to)));
  }
  return absl::OkStatus();
}

// Row-major strides in elements.
std::vector<int64_t> Strides(const std::vector<int64_t>& shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (int dim = static_cast<int>(shape.size()) - 2; dim >= 0; --dim) {
    strides[dim] = strides[dim + 1] * std::max<int64_t>(shape[dim + 1], 1);
  }
  return strides;
}

// The dim to cut a box along: the first with more than one element, or -1.
int FirstLongDim(const Box& box) {
  for (int dim = 0; dim < box.num_dims(); ++dim) {
    if (box.length[dim] > 1) return dim;
  }
  return -1;
}

// Cuts `box` and `tensor` along `dim` into slabs of `rows` and calls `transfer` on each.
absl::Status ForEachSlab(
    const Box& box, const at::Tensor& tensor, int dim, int64_t rows,
    absl::FunctionRef<absl::Status(const Box& box, const at::Tensor& tensor)> transfer) {
  Box slab = box;
  for (int64_t row = 0; row < box.length[dim]; row += rows) {
    slab.offset[dim] = box.offset[dim] + row;
    slab.length[dim] = std::min(rows, box.length[dim] - row);
    ABSL_RETURN_IF_ERROR(transfer(slab, tensor.narrow(dim, row, slab.length[dim])));
  }
  return absl::OkStatus();
}

// The file may hold any byte for a BOOL, but a C++ bool other than 0 and 1 is undefined behaviour.
void NormalizeBooleans(char* bytes, int64_t count) {
  for (int64_t i = 0; i < count; ++i) bytes[i] = bytes[i] != 0;
}

class BoxReader {
 public:
  BoxReader(const PosixFile& file, const StoredTensor& stored)
      : file_(file),
        stored_(stored),
        strides_(Strides(stored.shape)),
        element_bytes_(static_cast<int64_t>(c10::elementSize(stored.dtype))) {}

  absl::Status Read(const Box& box, const at::Tensor& destination) {
    const int64_t count = box.Volume();
    const int64_t span = SpanElements(box);
    const bool direct = count == span && destination.scalar_type() == stored_.dtype &&
                        destination.is_cpu() && destination.is_contiguous();
    if (direct) return ReadDirectly(box, count, destination);
    // Gaps never shrink from an inner dim to an outer one, so that of the outermost is the largest.
    const int dim = FirstLongDim(box);
    const bool gaps_are_small = dim < 0 || GapBytes(box, dim) <= kMaxGapBytes;
    if (gaps_are_small && span * element_bytes_ <= kStagingBytes) {
      return ReadStaged(box, span, destination);
    }
    const int64_t fitting_rows = kStagingBytes / (strides_[dim] * element_bytes_);
    const int64_t rows = gaps_are_small ? std::clamp<int64_t>(fitting_rows, 1, box.length[dim]) : 1;
    return ForEachSlab(
        box, destination, dim, rows,
        [this](const Box& slab, const at::Tensor& tensor) { return Read(slab, tensor); });
  }

 private:
  // Elements from the first of the box to its last, in the file.
  int64_t SpanElements(const Box& box, int first_dim = 0) const {
    int64_t last = 0;
    for (int dim = first_dim; dim < box.num_dims(); ++dim) {
      last += (box.length[dim] - 1) * strides_[dim];
    }
    return last + 1;
  }

  // Bytes that are not of the box between two of its neighbours along `dim`.
  int64_t GapBytes(const Box& box, int dim) const {
    if (box.length[dim] == 1) return 0;
    return (strides_[dim] - SpanElements(box, dim + 1)) * element_bytes_;
  }

  uint64_t FileOffset(const Box& box) const {
    int64_t start = 0;
    for (int dim = 0; dim < box.num_dims(); ++dim) start += box.offset[dim] * strides_[dim];
    return stored_.offset + static_cast<uint64_t>(start * element_bytes_);
  }

  absl::Status ReadDirectly(const Box& box, int64_t count, const at::Tensor& destination) {
    char* const bytes = static_cast<char*>(destination.data_ptr());
    ABSL_RETURN_IF_ERROR(
        file_.ReadAt(FileOffset(box), absl::MakeSpan(bytes, count * element_bytes_)));
    if (stored_.dtype == at::ScalarType::Bool) NormalizeBooleans(bytes, count);
    return absl::OkStatus();
  }

  absl::Status ReadStaged(const Box& box, int64_t span, const at::Tensor& destination) {
    if (staging_ == nullptr) staging_ = std::make_unique_for_overwrite<char[]>(kStagingBytes);
    ABSL_RETURN_IF_ERROR(
        file_.ReadAt(FileOffset(box), absl::MakeSpan(staging_.get(), span * element_bytes_)));
    if (stored_.dtype == at::ScalarType::Bool) NormalizeBooleans(staging_.get(), span);
    destination.copy_(at::from_blob(staging_.get(), box.length, strides_, stored_.dtype));
    return absl::OkStatus();
  }

  const PosixFile& file_;
  const StoredTensor& stored_;
  const std::vector<int64_t> strides_;
  const int64_t element_bytes_;
  std::unique_ptr<char[]> staging_;
};

class BoxWriter {
 public:
  BoxWriter(const PosixFile& file, const StoredTensor& stored, PiecewiseCrc32c& checksum)
      : file_(file),
        stored_(stored),
        whole_(Box::Whole(stored.shape)),
        element_bytes_(static_cast<int64_t>(c10::elementSize(stored.dtype))),
        checksum_(checksum) {}

  absl::Status Write(const Box& box, const at::Tensor& source) {
    const int64_t count = box.Volume();
    const int dim = FirstLongDim(box);
    // What needs no conversion is written from where it lies, in pieces that stay in the cache
    // between the checksum and the write.
    if (count * element_bytes_ <= kStagingBytes || dim < 0) {
      return WriteRuns(box, source.to(at::kCPU, stored_.dtype).contiguous());
    }
    const int64_t row_bytes = count / box.length[dim] * element_bytes_;
    const int64_t rows = std::clamp<int64_t>(kStagingBytes / row_bytes, 1, box.length[dim] - 1);
    return ForEachSlab(box, source, dim, rows, [this](const Box& slab, const at::Tensor& tensor) {
      return Write(slab, tensor);
    });
  }

 private:
  absl::Status WriteRuns(const Box& box, const at::Tensor& values) {
    std::string_view bytes(static_cast<const char*>(values.const_data_ptr()),
                           box.Volume() * element_bytes_);
    absl::Status status;
    ForEachRun(box, whole_, [&](int64_t start, int64_t count) {
      if (!status.ok()) return;
      const std::string_view run = bytes.substr(0, count * element_bytes_);
      bytes.remove_prefix(run.size());
      const uint64_t offset = stored_.offset + static_cast<uint64_t>(start * element_bytes_);
      checksum_.Add(offset, run);
      status = file_.WriteAt(offset, run);
    });
    return status;
  }

  const PosixFile& file_;
  const StoredTensor& stored_;
  const Box whole_;
  const int64_t element_bytes_;
  PiecewiseCrc32c& checksum_;
};

}  // namespace

absl::Status ReadBox(const PosixFile& file, const StoredTensor& stored, const Box& box,
                     at::Tensor destination) {
  ABSL_RETURN_IF_ERROR(
      CheckTransfer(stored, box, destination, stored.dtype, destination.scalar_type()));
  if (box.Empty()) return absl::OkStatus();
  // The destination is often a leaf that requires a gradient: loading is no part of the graph.
  const c10::AutoGradMode no_gradient(false);
  return BoxReader(file, stored).Read(box, destination);
}

absl::Status WriteBox(const PosixFile& file, const StoredTensor& stored, const Box& box,
                      const at::Tensor& source, PiecewiseCrc32c& checksum) {
  ABSL_RETURN_IF_ERROR(CheckTransfer(stored, box, source, source.scalar_type(), stored.dtype));
  if (box.Empty()) return absl::OkStatus();
  const c10::AutoGradMode no_gradient(false);
  return BoxWriter(file, stored, checksum).Write(box, source);
}

}  // namespace lathe
