// A tensor rank's memory, by the meter, with ranks as processes.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "ATen/Parallel.h"
#include "gtest/gtest.h"
#include "lathe/comm/gloo/gloo_backend.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/comm/rendezvous.h"
#include "lathe/layers/memory_meter.h"
#include "lathe/tests/equivalence/step_cost.h"

namespace lathe {
namespace {

int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address));
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  close(fd);
  return ntohs(address.sin_port);
}

// The peak of rank `rank` of `size` tensor ranks; negative if something failed.
int64_t PeakOfRank(int rank, int size, int port) {
  at::set_num_threads(1);
  MemoryMeter::Install();
  const std::chrono::seconds timeout(60);
  const auto store = OpenTcpStore("127.0.0.1", port, size, rank == 0, timeout);
  if (!store.ok()) return -1;
  const auto context =
      ParallelContext::Create(*ProcessMesh::Create({{"tp", size}}), rank,
                              ConnectGloo(*store, timeout, "127.0.0.1"), c10::kCPU);
  if (!context.ok()) return -2;
  return MeasureSteps(**context, {.sequence_parallel = true}, /*num_updates=*/1).peak_bytes;
}

// The peaks of `size` ranks, each a process that this one, which never computes, has forked.
std::vector<int64_t> Peaks(int size) {
  const int port = FreePort();
  std::vector<int> pipes;
  for (int rank = 0; rank < size; ++rank) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    if (fork() == 0) {
      const int64_t peak = PeakOfRank(rank, size, port);
      _exit(write(ends[1], &peak, sizeof(peak)) == sizeof(peak) ? 0 : 1);
    }
    close(ends[1]);
    pipes.push_back(ends[0]);
  }
  std::vector<int64_t> peaks;
  for (int rank = 0; rank < size; ++rank) {
    int64_t peak = -3;
    EXPECT_EQ(read(pipes[rank], &peak, sizeof(peak)), static_cast<ssize_t>(sizeof(peak)));
    close(pipes[rank]);
    peaks.push_back(peak);
  }
  while (wait(nullptr) > 0) {
  }
  return peaks;
}

// Weights, gradients, optimizer states and, with the sequence split, what is kept for backward: all
// are halved; a region's whole input, while it is used, is not.
TEST(TensorParallelMemoryTest, TwoRanksNeedLittleMoreThanHalfEach) {
  const auto one = static_cast<double>(Peaks(1)[0]);
  ASSERT_GT(one, 4e8);  // 32 million parameters, 16 bytes each
  for (const int64_t peak : Peaks(2)) {
    ASSERT_GT(peak, 2e8);
    const double share = static_cast<double>(peak) / one;
    std::printf("one process %.0f MB, a rank of two %.0f MB: %.3f\n", one / 1e6,
                static_cast<double>(peak) / 1e6, share);
    EXPECT_LT(share, 0.60);
  }
}

}  // namespace
}  // namespace lathe
