// Collectives at degrees 1, 2 and 4 with threads as ranks, against plain arithmetic.
#include "lathe/comm/gloo/gloo_backend.h"

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "ATen/ops/arange.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/full.h"
#include "ATen/ops/stack.h"
#include "gtest/gtest.h"
#include "lathe/comm/gloo/thread_ranks.h"

namespace lathe {
namespace {

class GlooTest : public testing::TestWithParam<int> {
 protected:
  void Run(const std::function<void(const Communicator&)>& body) {
    RunThreadRanks(*ProcessMesh::Create({{"dp", GetParam()}}),
                   [&](const ParallelContext& context) { body(context.Group({"dp"})); });
  }
};

// Odd sizes, so that padding inside all-reduce is exercised; values exact in every type.
at::Tensor Values(int rank, at::ScalarType type) {
  return at::arange(1, 12, at::kLong).add(rank).to(type);
}

TEST_P(GlooTest, AllReduceSumsInPlace) {
  Run([](const Communicator& group) {
    for (at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16, at::kLong}) {
      at::Tensor tensor = Values(group.rank(), type);
      group.AllReduce(tensor);
      at::Tensor expected = Values(0, at::kDouble).mul(0);
      for (int r = 0; r < group.size(); ++r) expected.add_(Values(r, at::kDouble));
      EXPECT_TRUE(at::equal(tensor.to(at::kDouble), expected)) << type;
    }
  });
}

TEST_P(GlooTest, AllReduceMaxAndMin) {
  Run([](const Communicator& group) {
    at::Tensor high = Values(group.rank(), at::kFloat), low = high.clone();
    group.AllReduce(high, ReduceOp::kMax);
    group.AllReduce(low, ReduceOp::kMin);
    EXPECT_TRUE(at::equal(high, Values(group.size() - 1, at::kFloat)));
    EXPECT_TRUE(at::equal(low, Values(0, at::kFloat)));
  });
}

TEST_P(GlooTest, HalfTypesAreSummedInFp32) {
  // 256 + 1 + 1 + 1 in bfloat16 arithmetic stays 256; summed in fp32 and rounded once it does not
  // (4 ranks: 260).
  Run([](const Communicator& group) {
    at::Tensor tensor = at::full({1}, group.rank() == 0 ? 256.0 : 1.5, at::kBFloat16);
    group.AllReduce(tensor);
    const double exact = 256.0 + 1.5 * (group.size() - 1);
    EXPECT_EQ(tensor.item().toFloat(),
              at::full({1}, exact, at::kFloat).to(at::kBFloat16).item().toFloat());
  });
}

TEST_P(GlooTest, AsynchronousCallsKeepTheirOrder) {
  Run([](const Communicator& group) {
    std::vector<at::Tensor> tensors;
    std::vector<PendingCollective> pending;
    for (int i = 0; i < 20; ++i) {
      tensors.push_back(at::full({100}, i + group.rank(), at::kFloat));
      pending.push_back(group.AllReduceAsync(tensors.back()));
    }
    at::Tensor blocking = at::full({3}, 1, at::kFloat);
    group.AllReduce(blocking);
    EXPECT_EQ(blocking[0].item().toInt(), group.size());
    for (int i = 0; i < 20; ++i) {
      pending[i].Wait();
      const int n = group.size();
      EXPECT_EQ(tensors[i][7].item().toInt(), i * n + n * (n - 1) / 2);
    }
  });
}

TEST_P(GlooTest, GatherScatterAndTranspose) {
  Run([](const Communicator& group) {
    const int n = group.size(), me = group.rank();
    const at::Tensor gathered = group.AllGather(at::full({2, 3}, me, at::kInt));
    ASSERT_EQ(gathered.sizes().vec(), (std::vector<int64_t>{n, 2, 3}));
    for (int r = 0; r < n; ++r) EXPECT_EQ(gathered[r][1][2].item().toInt(), r);

    std::vector<at::Tensor> slices;
    for (int r = 0; r < n; ++r) slices.push_back(at::full({2, 5}, 10 * me + r, at::kFloat));
    at::Tensor in = at::stack(slices).view({2 * n, 5});
    const at::Tensor transposed = group.AllToAll(in);
    const at::Tensor scattered = group.ReduceScatter(in);
    ASSERT_EQ(scattered.sizes().vec(), (std::vector<int64_t>{2, 5}));
    EXPECT_EQ(scattered[1][4].item().toInt(), 10 * n * (n - 1) / 2 + n * me);
    for (int r = 0; r < n; ++r) EXPECT_EQ(transposed[2 * r + 1][3].item().toInt(), 10 * r + me);
  });
}

TEST_P(GlooTest, GatherAndScatterAsynchronously) {
  Run([](const Communicator& group) {
    const int n = group.size(), me = group.rank();
    const at::Tensor in = at::full({2 * n, 5}, me, at::kFloat);
    at::Tensor summed = at::full({4}, 1, at::kFloat);
    const PendingTensor gathered = group.AllGatherAsync(at::full({2, 3}, me, at::kInt));
    const PendingTensor scattered = group.ReduceScatterAsync(in);
    const PendingCollective reduced = group.AllReduceAsync(summed);
    ASSERT_EQ(scattered.Wait().sizes().vec(), (std::vector<int64_t>{2, 5}));
    EXPECT_EQ(scattered.Wait()[1][4].item().toInt(), n * (n - 1) / 2);
    ASSERT_EQ(gathered.Wait().sizes().vec(), (std::vector<int64_t>{n, 2, 3}));
    for (int r = 0; r < n; ++r) EXPECT_EQ(gathered.Wait()[r][1][2].item().toInt(), r);
    reduced.Wait();
    EXPECT_EQ(summed[3].item().toInt(), n);
    EXPECT_EQ(group.seconds() > 0, n > 1);
  });
}

TEST_P(GlooTest, SumsInBlocksOfNeighbours) {
  Run([](const Communicator& group) {
    for (int block = 1; block <= group.size(); block *= 2) {
      at::Tensor tensor = Values(group.rank(), at::kDouble);
      const uint64_t before = group.bytes_sent();
      group.AllReduceInBlocks(tensor, block);
      at::Tensor expected = Values(0, at::kDouble).mul(0);
      const int first = group.rank() / block * block;
      for (int r = first; r < first + block; ++r) expected.add_(Values(r, at::kDouble));
      EXPECT_TRUE(at::equal(tensor, expected)) << block;
      if (block < group.size()) {
        EXPECT_EQ(group.bytes_sent() - before, tensor.nbytes() * (block - 1));
      }
    }
  });
}

TEST_P(GlooTest, BroadcastExchangeBarrier) {
  Run([](const Communicator& group) {
    const int n = group.size(), me = group.rank();
    at::Tensor tensor = at::full({4}, me, at::kDouble);
    group.Broadcast(tensor, n - 1);
    EXPECT_EQ(tensor[2].item().toInt(), n - 1);
    group.Barrier();
    if (n == 1) return;
    // Everybody sends two tensors of different sizes to the next and receives from the previous.
    at::Tensor a = at::full({3}, me, at::kFloat), b = at::full({70000}, me, at::kLong);
    at::Tensor ra = at::empty({3}, at::kFloat), rb = at::empty({70000}, at::kLong);
    const int next = (me + 1) % n, previous = (me + n - 1) % n;
    group.Exchange({{a, next}, {b, next}}, {{ra, previous}, {rb, previous}});
    EXPECT_EQ(ra[2].item().toInt(), previous);
    EXPECT_EQ(rb[69999].item().toInt(), previous);

    // The same beside other work, first the one, then the other.
    ra.zero_();
    rb.zero_();
    const uint64_t before = group.bytes_sent();
    const PendingCollective first = group.ExchangeAsync({{a, next}}, {{ra, previous}});
    const PendingCollective second = group.ExchangeAsync({{b, next}}, {{rb, previous}});
    second.Wait();
    first.Wait();
    EXPECT_EQ(ra[2].item().toInt(), previous);
    EXPECT_EQ(rb[69999].item().toInt(), previous);
    EXPECT_EQ(group.bytes_sent() - before, a.nbytes() + b.nbytes());
  });
}

TEST_P(GlooTest, BytesFollowTheFormula) {
  Run([](const Communicator& group) {
    const uint64_t n = group.size();
    const uint64_t before = group.bytes_sent();
    group.AllReduce(at::full({1200}, 1, at::kFloat));
    EXPECT_EQ(group.bytes_sent() - before, 2 * 4800 * (n - 1) / n);
  });
}

INSTANTIATE_TEST_SUITE_P(Degrees, GlooTest, testing::Values(1, 2, 4));

TEST(GlooFailureTest, AMissingPeerIsNamed) {
  // Two ranks disagree about the call: the waiting one times out and says group, operation and
  // rank.
  RendezvousStore store = MakeThreadStore();
  RunThreadRanks(*ProcessMesh::Create({{"dp", 2}}), [&](const ParallelContext& outer) {
    auto context = ParallelContext::Create(
        outer.mesh(), outer.rank(), ConnectGloo(store, std::chrono::milliseconds(500), "127.0.0.1"),
        c10::kCPU);
    ASSERT_TRUE(context.ok()) << context.status();
    (*context)->set_step(7);
    if (outer.rank() == 0) {
      try {
        (*context)->Group({"dp"}).Barrier();
        ADD_FAILURE() << "a barrier without its peer returned";
      } catch (const CollectiveError& error) {
        EXPECT_EQ(error.op(), "barrier");
        EXPECT_EQ(error.rank(), 0);
        EXPECT_NE(std::string(error.what()).find("rank 0: barrier in group 'dp' at step 7 failed"),
                  std::string::npos)
            << error.what();
      }
    }
    outer.World().Barrier();
  });
}

TEST(GlooFailureTest, ADeadPeerIsNamed) {
  // Rank 1 leaves, as a process does that dies: rank 0 learns of it long before the timeout.
  RendezvousStore store = MakeThreadStore();
  const auto start = std::chrono::steady_clock::now();
  RunThreadRanks(*ProcessMesh::Create({{"dp", 2}}), [&](const ParallelContext& outer) {
    auto context = ParallelContext::Create(
        outer.mesh(), outer.rank(), ConnectGloo(store, std::chrono::seconds(60), "127.0.0.1"),
        c10::kCPU);
    ASSERT_TRUE(context.ok()) << context.status();
    (*context)->Group({"dp"}).Barrier();
    if (outer.rank() == 1) {
      context->reset();
    } else {
      (*context)->set_step(3);
      try {
        at::Tensor tensor = at::full({1000}, 1, at::kFloat);
        (*context)->Group({"dp"}).AllReduce(tensor);
        ADD_FAILURE() << "an all-reduce without its peer returned";
      } catch (const CollectiveError& error) {
        EXPECT_NE(
            std::string(error.what()).find("rank 0: all-reduce in group 'dp' at step 3 failed"),
            std::string::npos)
            << error.what();
      }
    }
    outer.World().Barrier();
  });
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
}

TEST(EmbeddingGroupTest, IsTheTwoEndsOfAPipeline) {
  RunThreadRanks(*ProcessMesh::Create({{"dp", 2}, {"pp", 3}}), [](const ParallelContext& context) {
    const Communicator& group = context.EmbeddingGroup();
    const int dp = context.rank() % 2, pp = context.rank() / 2;
    if (pp == 1) {
      EXPECT_EQ(group.size(), 1);
      return;
    }
    EXPECT_EQ(group.global_ranks(), (std::vector<int>{dp, dp + 4}));
    at::Tensor tensor = at::full({1}, context.rank(), at::kLong);
    group.AllReduce(tensor);
    EXPECT_EQ(tensor.item().toInt(), 2 * dp + 4);
  });
}

TEST(GlooFailureTest, GroupsOfAMeshAreIndependent) {
  RunThreadRanks(*ProcessMesh::Create({{"tp", 2}, {"dp", 2}}), [](const ParallelContext& context) {
    at::Tensor tp = at::full({1}, context.rank(), at::kLong), dp = tp.clone(), world = tp.clone();
    context.Group({"tp"}).AllReduce(tp);
    context.Group({"dp"}).AllReduce(dp);
    context.World().AllReduce(world);
    EXPECT_EQ(tp.item().toInt(), context.rank() < 2 ? 1 : 5);
    EXPECT_EQ(dp.item().toInt(), context.rank() % 2 == 0 ? 2 : 4);
    EXPECT_EQ(world.item().toInt(), 6);
    EXPECT_EQ(context.Group({"pp"}).size(), 1);
    // An int64 to the other of two, and back; of four, padded to four, three to each, twice.
    std::map<std::string, uint64_t> bytes;
    for (const ParallelContext::Traffic& traffic : context.MeasuredTraffic()) {
      EXPECT_GT(traffic.seconds, 0) << traffic.group;
      bytes[traffic.group] = traffic.bytes;
    }
    EXPECT_EQ(bytes, (std::map<std::string, uint64_t>{{"dp", 16}, {"tp", 16}, {"tp+dp", 48}}));
  });
}

}  // namespace
}  // namespace lathe
