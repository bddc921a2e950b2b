#include "lathe/comm/parallel_context.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "c10/util/Exception.h"
#include "lathe/base/beacon.h"

namespace lathe {
namespace {

constexpr char kEmbeddingKey[] = "embedding";

}  // namespace

ParallelContext::ParallelContext(ProcessMesh mesh, int rank, BackendFactory factory,
                                 c10::Device device)
    : mesh_(std::move(mesh)), rank_(rank), factory_(std::move(factory)), device_(device) {}

std::unique_ptr<ParallelContext> ParallelContext::SingleProcess(c10::Device device) {
  return std::unique_ptr<ParallelContext>(new ParallelContext(ProcessMesh(), 0, nullptr, device));
}

std::string ParallelContext::Key(const std::vector<std::string>& axes) const {
  std::vector<std::string> names;
  for (const ProcessMesh::Axis& axis : mesh_.axes()) {
    if (axis.size > 1 && std::find(axes.begin(), axes.end(), axis.name) != axes.end()) {
      names.push_back(axis.name);
    }
  }
  return absl::StrJoin(names, "+");
}

absl::StatusOr<std::unique_ptr<ParallelContext>> ParallelContext::Create(
    ProcessMesh mesh, int rank, const BackendFactory& factory, c10::Device device) {
  if (rank < 0 || rank >= mesh.world_size()) {
    return absl::InvalidArgumentError(absl::StrCat("rank ", rank, " is outside a mesh of ",
                                                   mesh.world_size(), " ranks (RANK, WORLD_SIZE)"));
  }
  std::unique_ptr<ParallelContext> context(
      new ParallelContext(std::move(mesh), rank, factory, device));

  // Every subset of the axes, in one order on all ranks; with two or three axes that is at most
  // seven groups.
  std::vector<std::string> wide;
  for (const ProcessMesh::Axis& axis : context->mesh_.axes()) {
    if (axis.size > 1) wide.push_back(axis.name);
  }
  for (unsigned subset = 1; subset < (1u << wide.size()); ++subset) {
    std::vector<std::string> axes;
    for (size_t i = 0; i < wide.size(); ++i) {
      if (subset >> i & 1) axes.push_back(wide[i]);
    }
    ABSL_RETURN_IF_ERROR(context->AddGroup(context->Key(axes), context->mesh_.GroupOf(rank, axes)));
  }
  const std::vector<int> pipeline = context->mesh_.GroupOf(rank, {"pp"});
  if (pipeline.size() > 1 && (rank == pipeline.front() || rank == pipeline.back())) {
    ABSL_RETURN_IF_ERROR(context->AddGroup(kEmbeddingKey, {pipeline.front(), pipeline.back()}));
  }
  return context;
}

absl::StatusOr<std::unique_ptr<Communicator>> ParallelContext::Connect(
    const std::string& key, const std::vector<int>& ranks) const {
  const int position =
      static_cast<int>(std::find(ranks.begin(), ranks.end(), rank_) - ranks.begin());
  // Sibling groups along the same axes need different names at the rendezvous; the lowest rank
  // tells them apart.
  const std::string unique = absl::StrCat(key, "/", ranks.front());
  const auto error = [&](std::string_view detail) {
    return absl::UnavailableError(absl::StrCat("rank ", rank_, " cannot join group '", key, "' of ",
                                               ranks.size(), " ranks: ", detail));
  };
  try {
    const InCollective waits("rendezvous", key);
    return std::make_unique<Communicator>(key, ranks, position, factory_(unique, ranks, position));
  } catch (const c10::Error& e) {
    return error(e.what_without_backtrace());
  } catch (const std::exception& e) {
    return error(e.what());
  }
}

absl::Status ParallelContext::AddGroup(const std::string& key, const std::vector<int>& ranks) {
  ABSL_ASSIGN_OR_RETURN(groups_[key], Connect(key, ranks));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Communicator>> ParallelContext::NewWorldGroup(
    const std::string& name) const {
  if (world_size() == 1) return std::make_unique<Communicator>();
  return Connect(name, World().global_ranks());
}

const Communicator& ParallelContext::Group(const std::vector<std::string>& axes) const {
  const auto found = groups_.find(Key(axes));
  return found == groups_.end() ? self_ : *found->second;
}

const Communicator& ParallelContext::World() const {
  std::vector<std::string> all;
  for (const ProcessMesh::Axis& axis : mesh_.axes()) all.push_back(axis.name);
  return Group(all);
}

std::vector<ParallelContext::Traffic> ParallelContext::MeasuredTraffic() const {
  std::vector<Traffic> traffic;
  for (const auto& [key, group] : groups_) {
    if (group->bytes_sent() == 0) continue;
    traffic.push_back({key, group->bytes_sent(), group->seconds()});
  }
  return traffic;
}

const Communicator& ParallelContext::EmbeddingGroup() const {
  const auto found = groups_.find(kEmbeddingKey);
  return found == groups_.end() ? self_ : *found->second;
}

void ParallelContext::set_step(int64_t step) const {
  for (const auto& [key, group] : groups_) group->set_step(step);
}

}  // namespace lathe
