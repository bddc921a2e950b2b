#include "lathe/comm/process_mesh.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace lathe {

absl::StatusOr<ProcessMesh> ProcessMesh::Create(std::vector<Axis> axes) {
  for (size_t i = 0; i < axes.size(); ++i) {
    if (axes[i].name.empty()) return absl::InvalidArgumentError("a mesh axis has no name");
    if (axes[i].size < 1) {
      return absl::InvalidArgumentError(absl::StrCat("mesh axis '", axes[i].name, "' has size ",
                                                     axes[i].size, "; it must be at least 1"));
    }
    for (size_t j = 0; j < i; ++j) {
      if (axes[j].name == axes[i].name) {
        return absl::InvalidArgumentError(
            absl::StrCat("mesh axis '", axes[i].name, "' is listed twice"));
      }
    }
  }
  ProcessMesh mesh;
  mesh.axes_ = std::move(axes);
  return mesh;
}

int ProcessMesh::world_size() const {
  int product = 1;
  for (const Axis& axis : axes_) product *= axis.size;
  return product;
}

int ProcessMesh::size(std::string_view axis) const {
  for (const Axis& a : axes_) {
    if (a.name == axis) return a.size;
  }
  return 1;
}

int ProcessMesh::Coordinate(int rank, std::string_view axis) const {
  for (const Axis& a : axes_) {
    if (a.name == axis) return rank % a.size;
    rank /= a.size;
  }
  return 0;
}

std::vector<int> ProcessMesh::GroupOf(int rank, const std::vector<std::string>& axes) const {
  std::vector<int> ranks;
  for (int other = 0; other < world_size(); ++other) {
    const bool same = std::all_of(axes_.begin(), axes_.end(), [&](const Axis& axis) {
      return std::find(axes.begin(), axes.end(), axis.name) != axes.end() ||
             Coordinate(other, axis.name) == Coordinate(rank, axis.name);
    });
    if (same) ranks.push_back(other);
  }
  return ranks;
}

}  // namespace lathe
