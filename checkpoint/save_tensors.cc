#include <map>
#include <utility>

#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "lathe/checkpoint/checkpoint.h"
#include "lathe/checkpoint/posix_file.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

// A logical tensor as all ranks together describe it.
struct SharedTensor {
  TensorSpec spec;
  std::vector<Box> boxes;
};

// [[name, dtype, shape, [[offset, length], ...]], ...]
std::string Describe(absl::Span<const NamedTensor> tensors) {
  nlohmann::json list = nlohmann::json::array();
  for (const NamedTensor& tensor : tensors) {
    nlohmann::json boxes = nlohmann::json::array();
    if (tensor.replica == 0) {
      for (const TensorPiece& piece : tensor.pieces) {
        boxes.push_back({piece.box.offset, piece.box.length});
      }
    }
    list.push_back(
        {tensor.name, static_cast<int>(tensor.file_dtype), tensor.full_shape, std::move(boxes)});
  }
  return list.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string SpecText(const TensorSpec& spec) {
  return absl::StrCat(c10::toString(spec.dtype), " [", absl::StrJoin(spec.shape, ", "), "]");
}

absl::StatusOr<std::map<std::string, SharedTensor>> Merge(
    const std::vector<std::string>& descriptions) {
  std::map<std::string, SharedTensor> merged;
  for (size_t rank = 0; rank < descriptions.size(); ++rank) {
    for (const nlohmann::json& item : nlohmann::json::parse(descriptions[rank])) {
      TensorSpec spec{.name = item.at(0).get<std::string>(),
                      .dtype = static_cast<at::ScalarType>(item.at(1).get<int>()),
                      .shape = item.at(2).get<std::vector<int64_t>>()};
      SharedTensor& shared = merged.try_emplace(spec.name, SharedTensor{spec, {}}).first->second;
      if (shared.spec.dtype != spec.dtype || shared.spec.shape != spec.shape) {
        return absl::InvalidArgumentError(absl::StrCat("tensor '", Printable(spec.name), "' is ",
                                                       SpecText(spec), " on rank ", rank, " but ",
                                                       SpecText(shared.spec), " on a rank before"));
      }
      for (const nlohmann::json& box : item.at(3)) {
        shared.boxes.push_back({.offset = box.at(0).get<std::vector<int64_t>>(),
                                .length = box.at(1).get<std::vector<int64_t>>()});
      }
    }
  }
  return merged;
}

// Each element lies in exactly one box.
absl::Status CheckPartition(const SharedTensor& tensor) {
  // Beyond this many boxes overlaps are noticed only by the sum, not named.
  constexpr size_t kMaxPairwise = 512;
  const auto error = [&](std::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("tensor '", Printable(tensor.spec.name), "' (",
                                                   SpecText(tensor.spec), ") ", what));
  };
  const Box whole = Box::Whole(tensor.spec.shape);
  int64_t covered = 0;
  for (size_t i = 0; i < tensor.boxes.size(); ++i) {
    const Box& box = tensor.boxes[i];
    if (box.offset.size() != box.length.size() || box.num_dims() != whole.num_dims() ||
        !whole.Contains(box)) {
      return error(absl::StrCat("has the piece ", box.ToString(), " outside of it"));
    }
    covered += box.Volume();
    if (tensor.boxes.size() > kMaxPairwise) continue;
    for (size_t j = 0; j < i; ++j) {
      if (!box.Empty() && Intersect(box, tensor.boxes[j]).has_value()) {
        return error(absl::StrCat("has the overlapping pieces ", tensor.boxes[j].ToString(),
                                  " and ", box.ToString()));
      }
    }
  }
  if (covered == whole.Volume()) return absl::OkStatus();
  return error(absl::StrCat("has pieces of ", covered, " elements, expected ", whole.Volume(),
                            ": every element belongs to the replica 0 of one rank"));
}

absl::StatusOr<ShardedLayout> Plan(const std::vector<std::string>& descriptions,
                                   std::string_view stem, uint64_t max_shard_bytes) {
  ABSL_ASSIGN_OR_RETURN(const auto merged, Merge(descriptions));
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : merged) {
    // Before the layout, so that a wrong shape is named by its own check.
    ABSL_RETURN_IF_ERROR(CheckedVolume(tensor.spec.shape).status());
    ABSL_RETURN_IF_ERROR(CheckPartition(tensor));
    specs.push_back(tensor.spec);
  }
  return PlanShards(specs, stem, max_shard_bytes);
}

// This rank's pieces of one file.
absl::Status WritePieces(AtomicDirectory& directory, const ShardedLayout::File& target,
                         const std::vector<const NamedTensor*>& tensors) {
  ABSL_ASSIGN_OR_RETURN(PosixFile file,
                        PosixFile::OpenForWriting(JoinPath(directory.path(), target.name)));
  PiecewiseCrc32c part(target.layout.file_bytes());
  for (const NamedTensor* tensor : tensors) {
    for (const TensorPiece& piece : tensor->pieces) {
      ABSL_RETURN_IF_ERROR(
          target.layout.WriteBox(file, tensor->name, piece.box, piece.local, part));
    }
  }
  ABSL_RETURN_IF_ERROR(file.Sync());
  ABSL_RETURN_IF_ERROR(file.Close());
  directory.AddPart(target.name, part);
  return absl::OkStatus();
}

absl::Status WriteAllPieces(AtomicDirectory& directory, const ShardedLayout& plan,
                            absl::Span<const NamedTensor> tensors) {
  std::vector<std::vector<const NamedTensor*>> tensors_of_file(plan.files.size());
  for (const NamedTensor& tensor : tensors) {
    if (tensor.replica != 0 || tensor.pieces.empty()) continue;
    tensors_of_file[plan.file_of_tensor.at(tensor.name)].push_back(&tensor);
  }
  for (size_t i = 0; i < plan.files.size(); ++i) {
    if (tensors_of_file[i].empty()) continue;
    ABSL_RETURN_IF_ERROR(WritePieces(directory, plan.files[i], tensors_of_file[i]));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SaveTensors(AtomicDirectory& directory, std::string_view stem,
                         absl::Span<const NamedTensor> tensors, uint64_t max_shard_bytes) {
  ABSL_RETURN_IF_ERROR(directory.Agree());
  const std::vector<std::string> descriptions = directory.group().all_gather(Describe(tensors));
  // The same on all ranks, since all see the same descriptions.
  const absl::StatusOr<ShardedLayout> plan = Plan(descriptions, stem, max_shard_bytes);
  directory.Fail(plan.status());
  ABSL_RETURN_IF_ERROR(plan.status());

  if (directory.group().rank == 0) {
    for (const ShardedLayout::File& file : plan->files) {
      directory.AllocateFile(file.name, file.layout.file_bytes(), file.layout.header());
    }
    if (!plan->index_name.empty()) directory.WriteFile(plan->index_name, plan->index_json);
  }
  ABSL_RETURN_IF_ERROR(directory.Agree());
  directory.Fail(WriteAllPieces(directory, *plan, tensors));
  return directory.Agree();
}

}  // namespace lathe
