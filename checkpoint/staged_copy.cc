#include "lathe/checkpoint/staged_copy.h"

#include "ATen/ops/empty.h"
#include "c10/core/ScalarType.h"

namespace lathe {
namespace {

// Each tensor starts at a cache line: a copy to it runs at full speed.
constexpr int64_t kAlignment = 64;

bool IsSavedHere(const NamedTensor& tensor) { return tensor.replica == 0; }

int64_t BytesInFile(const NamedTensor& tensor, const TensorPiece& piece) {
  return piece.local.numel() * static_cast<int64_t>(c10::elementSize(tensor.file_dtype));
}

int64_t Aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

std::vector<NamedTensor> StagedCopy::Copy(absl::Span<const NamedTensor> tensors) {
  int64_t total = 0;
  bool pinned = false;
  for (const NamedTensor& tensor : tensors) {
    if (!IsSavedHere(tensor)) continue;
    for (const TensorPiece& piece : tensor.pieces) {
      total += Aligned(BytesInFile(tensor, piece));
      pinned = pinned || piece.local.is_cuda();
    }
  }
  if (bytes() < total) {
    memory_.reset();  // before the larger one is there
    memory_ = at::empty({total}, at::TensorOptions(at::kByte).pinned_memory(pinned));
  }

  std::vector<NamedTensor> copies(tensors.begin(), tensors.end());
  int64_t offset = 0;
  for (NamedTensor& copy : copies) {
    if (!IsSavedHere(copy)) copy.pieces.clear();
    for (TensorPiece& piece : copy.pieces) {
      const int64_t size = BytesInFile(copy, piece);
      const at::Tensor staged =
          memory_.narrow(0, offset, size).view(copy.file_dtype).view(piece.local.sizes());
      staged.copy_(piece.local);
      piece.local = staged;
      offset += Aligned(size);
    }
  }
  return copies;
}

}  // namespace lathe
