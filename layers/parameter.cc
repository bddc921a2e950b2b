#include "lathe/layers/parameter.h"

#include <utility>

#include "ATen/core/grad_mode.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/from_blob.h"
#include "absl/types/span.h"
#include "c10/util/Exception.h"
#include "lathe/base/random.h"
#include "lathe/layers/precision.h"

namespace lathe {
namespace {

// The region of `tensor` that holds `piece`.
at::Tensor LocalView(const at::Tensor& tensor, const ShardPiece& piece) {
  at::Tensor view = tensor;
  for (int dim = 0; dim < piece.logical.num_dims(); ++dim) {
    view = view.narrow(dim, piece.local_offset[dim], piece.logical.length[dim]);
  }
  return view;
}

template <typename T>
void Draw(const KeyedStream& stream, const Initializer& initializer, int64_t first,
          absl::Span<T> out) {
  if (initializer.kind == Initializer::Kind::kUniform) {
    stream.FillUniform(-initializer.scale, initializer.scale, first, out);
  } else {
    stream.FillNormal(0.0, initializer.scale, first, out);
  }
}

}  // namespace

ShardSpec ShardSpec::Whole(const std::vector<int64_t>& shape, int replica) {
  return {{{Box::Whole(shape), std::vector<int64_t>(shape.size(), 0)}}, replica};
}

ShardSpec ShardSpec::Slice(const std::vector<int64_t>& shape, int dim, int64_t offset,
                           int64_t length, int replica) {
  TORCH_CHECK(dim >= 0 && dim < static_cast<int>(shape.size()) && offset >= 0 && length >= 0 &&
                  offset + length <= shape[dim],
              "slice [", offset, ", ", offset + length, ") of dim ", dim, " is outside the tensor");
  if (length == 0) return {{}, replica};
  Box box = Box::Whole(shape);
  box.offset[dim] = offset;
  box.length[dim] = length;
  return {{{std::move(box), std::vector<int64_t>(shape.size(), 0)}}, replica};
}

Parameter::Parameter(std::string name, std::vector<int64_t> full_shape, ShardSpec shard,
                     at::Tensor tensor, Initializer initializer)
    : name_(std::move(name)),
      full_shape_(std::move(full_shape)),
      shard_(std::move(shard)),
      tensor_(std::move(tensor)),
      initializer_(initializer) {
  tensor_.set_requires_grad(true);
}

void Parameter::MoveTo(const at::Tensor& storage) {
  at::NoGradGuard no_grad;
  if (!tensor_.is_meta()) storage.detach().copy_(tensor_);
  PointTo(storage);
}

void Parameter::PointTo(const at::Tensor& storage) {
  TORCH_CHECK(storage.sizes() == tensor_.sizes() && storage.dtype() == tensor_.dtype(), name_,
              ": the new storage has another shape or dtype");
  if (tensor_.is_meta()) {
    // Nobody can have used it.
    tensor_ = storage.detach().set_requires_grad(tensor_.requires_grad());
  } else {
    // set_data keeps the leaf's identity for whoever holds the tensor.
    tensor_.set_data(storage.detach());
  }
}

void Parameter::InitializeInto(const at::Tensor& local, uint64_t seed) const {
  at::NoGradGuard no_grad;
  local.zero_();
  if (initializer_.kind == Initializer::Kind::kZeros) return;
  const Box whole = Box::Whole(full_shape_);
  const KeyedStream stream(seed, "init", name_);
  // fp64 models get fp64 draws; everything else rounds from fp32.
  const at::ScalarType draw = UpcastType(local.scalar_type());
  for (const ShardPiece& piece : shard_.pieces) {
    at::Tensor view = LocalView(local, piece);
    if (initializer_.kind == Initializer::Kind::kOnes) {
      view.fill_(1);
      continue;
    }
    at::Tensor values = at::empty(piece.logical.length, at::TensorOptions().dtype(draw));
    int64_t at = 0;
    ForEachRun(piece.logical, whole, [&](int64_t start, int64_t count) {
      if (draw == at::kDouble) {
        Draw(stream, initializer_, start, absl::MakeSpan(values.data_ptr<double>() + at, count));
      } else {
        Draw(stream, initializer_, start, absl::MakeSpan(values.data_ptr<float>() + at, count));
      }
      at += count;
    });
    view.copy_(values);
    const int64_t row = initializer_.zero_row - piece.logical.offset[0];
    if (initializer_.zero_row >= 0 && row >= 0 && row < piece.logical.length[0]) view[row].zero_();
  }
}

std::vector<LogicalPiece> LogicalPieces(const Parameter& p, const at::Tensor& local) {
  std::vector<LogicalPiece> pieces;
  for (const ShardPiece& piece : p.shard().pieces) {
    pieces.push_back({piece.logical, LocalView(local, piece)});
  }
  return pieces;
}

int64_t NumLogicalElements(const Parameter& parameter) {
  int64_t count = 0;
  for (const ShardPiece& piece : parameter.shard().pieces) count += piece.logical.Volume();
  return count;
}

}  // namespace lathe
