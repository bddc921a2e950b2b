// ParallelContext: the mesh, this process's place in it, the groups and the device. Built once per
// rank by the composition root (or by RunThreadRanks in tests) and passed by reference; there is no
// global rank or group.
//
//   std::unique_ptr<ParallelContext> alone = ParallelContext::SingleProcess();
//   ABSL_ASSIGN_OR_RETURN(auto context, ParallelContext::Create(
//       mesh, rank, ConnectGloo(store, timeout, "127.0.0.1"), c10::kCPU));
//   context->Group({"tp"}).AllReduce(x);
//
// Group creation is collective: all ranks create the same groups in the same order, in Create and
// NewWorldGroup; Group() only looks up. Thread rule: used by one rank's threads; see Communicator.
#ifndef LATHE_COMM_PARALLEL_CONTEXT_H_
#define LATHE_COMM_PARALLEL_CONTEXT_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "c10/core/Device.h"
#include "lathe/comm/communicator.h"
#include "lathe/comm/process_mesh.h"

namespace lathe {

// Makes the transport of one group: its unique name, the global ranks in it and this rank's
// position among them. Throws std::exception when peers cannot be reached.
using BackendFactory = std::function<std::unique_ptr<Backend>(
    const std::string& group, const std::vector<int>& ranks, int rank)>;

class ParallelContext {
 public:
  static std::unique_ptr<ParallelContext> SingleProcess(c10::Device device = c10::kCPU);

  // Connects this rank with its peers: one group per axis of the mesh, one for each set of axes up
  // to the world, and the embedding group. Errors: InvalidArgument if `rank` is outside the mesh;
  // Unavailable if a peer cannot be reached in time.
  static absl::StatusOr<std::unique_ptr<ParallelContext>> Create(ProcessMesh mesh, int rank,
                                                                 const BackendFactory& factory,
                                                                 c10::Device device);

  const ProcessMesh& mesh() const { return mesh_; }
  int rank() const { return rank_; }
  int world_size() const { return mesh_.world_size(); }
  c10::Device device() const { return device_; }

  // This rank's group along `axes` (names of the mesh, any order). Axes of size 1 do not matter; if
  // nothing else is left the group is the rank alone.
  const Communicator& Group(const std::vector<std::string>& axes) const;
  const Communicator& World() const;

  // Collective. One more group of all ranks, for a thread of its own: a communicator's calls must
  // not be interleaved. `name` is new. Errors: Unavailable if a peer cannot be reached in time.
  absl::StatusOr<std::unique_ptr<Communicator>> NewWorldGroup(const std::string& name) const;

  // What this rank has sent along each group that has sent anything ("tp", "dp", "tp+dp"), and the
  // time spent in its collectives.
  struct Traffic {
    std::string group;
    uint64_t bytes = 0;
    double seconds = 0;
  };
  std::vector<Traffic> MeasuredTraffic() const;

  // The first and the last rank along "pp", which both hold the table of a tied embedding; on other
  // ranks, and without a pipeline, the rank alone.
  const Communicator& EmbeddingGroup() const;

  // Sets the step that errors name, on every group.
  void set_step(int64_t step) const;

 private:
  ParallelContext(ProcessMesh mesh, int rank, BackendFactory factory, c10::Device device);
  std::string Key(const std::vector<std::string>& axes) const;
  absl::StatusOr<std::unique_ptr<Communicator>> Connect(const std::string& key,
                                                        const std::vector<int>& ranks) const;
  absl::Status AddGroup(const std::string& key, const std::vector<int>& ranks);

  ProcessMesh mesh_;
  int rank_;
  BackendFactory factory_;
  c10::Device device_;
  Communicator self_;
  std::map<std::string, std::unique_ptr<Communicator>>
      groups_;  // by key: axes of size > 1 joined in mesh order, or kEmbeddingKey
};

}  // namespace lathe

#endif  // LATHE_COMM_PARALLEL_CONTEXT_H_
