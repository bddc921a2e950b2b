#include "lathe/comm/gloo/thread_ranks.h"

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ATen/Parallel.h"
#include "absl/strings/str_cat.h"
#include "lathe/comm/gloo/gloo_backend.h"
#include "lathe/comm/rendezvous.h"

namespace lathe {

void RunThreadRanks(const ProcessMesh& mesh,
                    const std::function<void(const ParallelContext&)>& body) {
  at::set_num_threads(1);
  RendezvousStore store = MakeThreadStore();
  std::vector<std::string> errors(mesh.world_size());
  // Kept until all have finished: a rank that closes its connections early disturbs peers that
  // still read.
  std::vector<std::unique_ptr<ParallelContext>> contexts(mesh.world_size());
  std::vector<std::thread> threads;
  for (int rank = 0; rank < mesh.world_size(); ++rank) {
    threads.emplace_back([&, rank] {
      try {
        auto context = ParallelContext::Create(
            mesh, rank, ConnectGloo(store, std::chrono::seconds(60), "127.0.0.1"), c10::kCPU);
        if (!context.ok()) throw std::runtime_error(std::string(context.status().message()));
        contexts[rank] = *std::move(context);
        body(*contexts[rank]);
      } catch (const std::exception& e) {
        errors[rank] = absl::StrCat("rank ", rank, ": ", e.what());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& error : errors) {
    if (!error.empty()) throw std::runtime_error(error);
  }
}

}  // namespace lathe
