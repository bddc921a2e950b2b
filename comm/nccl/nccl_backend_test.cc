// Collectives over NCCL, one thread and one GPU per rank, against plain arithmetic.
#include "lathe/comm/nccl/nccl_backend.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "ATen/ops/arange.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/full.h"
#include "c10/util/Exception.h"
#include "gtest/gtest.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/comm/rendezvous.h"

namespace lathe {
namespace {

class NcclTest : public testing::Test {
 protected:
  void SetUp() override {
    if (NumGpus() == 0) GTEST_SKIP() << "no GPU on this machine";
  }

  // `body` of each rank, for tensors on its GPU and for tensors in the host's memory.
  static void Run(const std::function<void(Backend&, int rank, int size, c10::Device)>& body) {
    const int size = std::min(NumGpus(), 4);
    RendezvousStore store = MakeThreadStore();
    std::vector<std::thread> threads;
    std::vector<int> ranks;
    for (int rank = 0; rank < size; ++rank) ranks.push_back(rank);
    // Kept until all have finished: peers may still read.
    std::vector<std::unique_ptr<Backend>> backends(size);
    for (int rank = 0; rank < size; ++rank) {
      threads.emplace_back([&, rank] {
        const c10::Device gpu(c10::kCUDA, static_cast<c10::DeviceIndex>(rank));
        try {
          backends[rank] = ConnectNccl(store, std::chrono::seconds(60), gpu)("world", ranks, rank);
          body(*backends[rank], rank, size, gpu);
          body(*backends[rank], rank, size, c10::kCPU);
        } catch (const std::exception& e) {
          ADD_FAILURE() << "rank " << rank << ": " << e.what();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
};

at::Tensor Filled(int64_t n, double value, c10::Device device) {
  return at::full({n}, value, at::TensorOptions(device).dtype(at::kDouble));
}

TEST_F(NcclTest, GatherTransposeBroadcast) {
  Run([](Backend& backend, int rank, int size, c10::Device device) {
    at::Tensor gathered = Filled(3 * size, -1, device);
    backend.AllGather(Filled(3, rank, device), gathered);
    for (int r = 0; r < size; ++r) EXPECT_EQ(gathered[3 * r + 2].item().toInt(), r);

    const at::Tensor pieces =
        at::arange(size, at::TensorOptions(device).dtype(at::kDouble)).add(10 * rank);
    at::Tensor transposed = Filled(size, -1, device);
    backend.AllToAll(pieces, transposed);
    for (int r = 0; r < size; ++r) EXPECT_EQ(transposed[r].item().toInt(), 10 * r + rank);

    at::Tensor tensor = Filled(5, rank, device);
    backend.Broadcast(tensor, size - 1);
    EXPECT_TRUE(at::equal(tensor, Filled(5, size - 1, device)));
    backend.Barrier();
  });
}

TEST_F(NcclTest, ExchangesAroundARing) {
  if (NumGpus() < 2) GTEST_SKIP() << "an exchange needs two GPUs, this machine has " << NumGpus();
  Run([](Backend& backend, int rank, int size, c10::Device device) {
    const int next = (rank + 1) % size, previous = (rank + size - 1) % size;
    std::vector<Transfer> sends{{Filled(3, rank, device), next},
                                {Filled(7, 10 + rank, device), next}};
    std::vector<Transfer> receives{{Filled(3, -1, device), previous},
                                   {Filled(7, -1, device), previous}};
    backend.Exchange(sends, receives);
    EXPECT_TRUE(at::equal(receives[0].tensor, Filled(3, previous, device)));
    EXPECT_TRUE(at::equal(receives[1].tensor, Filled(7, 10 + previous, device)));
  });
}

}  // namespace
}  // namespace lathe
