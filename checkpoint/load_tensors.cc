#include <algorithm>
#include <set>
#include <utility>

#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "c10/core/ScalarType.h"
#include "lathe/checkpoint/checkpoint.h"
#include "lathe/checkpoint/posix_file.h"

namespace lathe {
namespace {

// "2 missing: a, b", or nothing.
class Fault {
 public:
  explicit Fault(std::string_view what) : what_(what) {}

  void Add(std::string item) {
    constexpr size_t kMaxNamed = 10;
    ++count_;
    if (named_.size() < kMaxNamed) named_.push_back(std::move(item));
  }

  void AppendTo(std::vector<std::string>& faults) const {
    if (count_ == 0) return;
    const size_t num_more = count_ - named_.size();
    faults.push_back(absl::StrCat(count_, " ", what_, ": ", absl::StrJoin(named_, ", "),
                                  num_more == 0 ? "" : absl::StrCat(" and ", num_more, " more")));
  }

 private:
  std::string_view what_;
  size_t count_ = 0;
  std::vector<std::string> named_;
};

std::string ShapeText(absl::Span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

// Integers and 8-bit floats in place of weights are quantised: meaningless without their scales.
bool Convertible(const NamedTensor& tensor, at::ScalarType file_dtype) {
  for (const TensorPiece& piece : tensor.pieces) {
    const at::ScalarType wanted = piece.local.scalar_type();
    const bool is_weight = file_dtype == at::kDouble || file_dtype == at::kFloat ||
                           file_dtype == at::kHalf || file_dtype == at::kBFloat16;
    if (wanted != file_dtype && !(is_weight && c10::isFloatingType(wanted))) return false;
  }
  return true;
}

absl::Status CheckFit(const ModelFiles& files, absl::Span<const NamedTensor> tensors,
                      const LoadOptions& options) {
  Fault missing("missing");
  Fault surplus("surplus");
  Fault misshaped("of another shape");
  Fault unconvertible("of a dtype that does not convert");
  std::set<std::string_view> wanted;
  for (const NamedTensor& tensor : tensors) {
    wanted.insert(tensor.name);
    const std::string name = Printable(tensor.name);
    const SafetensorsTensor* const found = files.Find(tensor.name);
    if (found == nullptr) {
      if (!options.missing_ok || !options.missing_ok(tensor.name)) missing.Add(name);
    } else if (found->shape != tensor.full_shape) {
      misshaped.Add(absl::StrCat(name, " (expected ", ShapeText(tensor.full_shape), ", found ",
                                 ShapeText(found->shape), ")"));
    } else if (!Convertible(tensor, found->dtype)) {
      unconvertible.Add(absl::StrCat(name, " (found ", *SafetensorsDtypeName(found->dtype), ")"));
    }
  }
  for (const auto& [name, entry] : files.tensors()) {
    if (wanted.contains(name)) continue;
    if (!options.surplus_ok || !options.surplus_ok(name)) surplus.Add(Printable(name));
  }
  std::vector<std::string> faults;
  for (const Fault* fault : {&missing, &surplus, &misshaped, &unconvertible}) {
    fault->AppendTo(faults);
  }
  if (faults.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(files.path(), " does not fit: ", absl::StrJoin(faults, "; ")));
}

}  // namespace

std::set<std::string, std::less<>> NamesOnAllRanks(const RankGroup& ranks,
                                                   absl::Span<const NamedTensor> tensors) {
  std::string mine;
  // Names are the model's own, without line ends.
  for (const NamedTensor& tensor : tensors) absl::StrAppend(&mine, tensor.name, "\n");
  std::set<std::string, std::less<>> names;
  for (const std::string& theirs : ranks.all_gather(std::move(mine))) {
    for (const std::string_view name : absl::StrSplit(theirs, '\n', absl::SkipEmpty())) {
      names.emplace(name);
    }
  }
  return names;
}

absl::Status LoadTensors(const ModelFiles& files, absl::Span<const NamedTensor> tensors,
                         const LoadOptions& options) {
  ABSL_RETURN_IF_ERROR(CheckFit(files, tensors, options));
  for (const NamedTensor& tensor : tensors) {
    if (files.Find(tensor.name) == nullptr) continue;  // missing_ok
    for (const TensorPiece& piece : tensor.pieces) {
      ABSL_RETURN_IF_ERROR(files.Read(tensor.name, piece.box, piece.local));
    }
  }
  return absl::OkStatus();
}

std::vector<TensorPiece> PiecesOfRange(const Box& box, int64_t begin, int64_t end,
                                       const at::Tensor& flat) {
  const int num_dims = box.num_dims();
  // Elements below one index of each dim.
  std::vector<int64_t> inner(num_dims, 1);
  for (int dim = num_dims - 2; dim >= 0; --dim) inner[dim] = inner[dim + 1] * box.length[dim + 1];

  std::vector<TensorPiece> pieces;
  int64_t position = begin;
  while (position < end) {
    // The outermost dim at whose start `position` lies and of which a whole row still fits; then as
    // many rows of it as fit. At the innermost a row is one element, so there always is one.
    int dim = 0;
    while (dim < num_dims && (position % inner[dim] != 0 || position + inner[dim] > end)) ++dim;
    TensorPiece piece{.box = box, .local = {}};
    int64_t count = 1;
    int64_t rest = position;
    for (int outer = 0; outer < num_dims && outer <= dim; ++outer) {
      const int64_t index = rest / inner[outer];
      rest %= inner[outer];
      piece.box.offset[outer] += index;
      piece.box.length[outer] = 1;
      if (outer == dim) {
        const int64_t rows = std::min(box.length[dim] - index, (end - position) / inner[dim]);
        piece.box.length[dim] = rows;
        count = rows * inner[dim];
      }
    }
    piece.local = flat.narrow(0, position - begin, count).view(piece.box.length);
    pieces.push_back(std::move(piece));
    position += count;
  }
  return pieces;
}

}  // namespace lathe
