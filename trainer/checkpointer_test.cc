#include "lathe/trainer/checkpointer.h"

#include <sys/resource.h>

#include <fstream>
#include <memory>
#include <string>

#include "ATen/ops/empty.h"
#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "lathe/comm/gloo/thread_ranks.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/layers/parameter.h"
#include "lathe/zero/zero_optimizer.h"

namespace lathe {
namespace {

// Lets the process have so many bytes of address space more, until the end of the scope.
class MemoryLimit {
 public:
  explicit MemoryLimit(rlim_t more) {
    rlim_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    getrlimit(RLIMIT_AS, &before_);
    const rlimit limit{pages * 4096 + more, before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
  }
  ~MemoryLimit() { setrlimit(RLIMIT_AS, &before_); }

 private:
  rlimit before_;
};

// Rank 0, which saves for both, has no memory for the copy: neither the update nor the other rank
// waits for it, and both get the same error.
TEST(CheckpointerTest, ACopyThatDoesNotFitIsAnErrorOnAllRanks) {
  RunThreadRanks(*ProcessMesh::Create({{"dp", 2}}), [](const ParallelContext& context) {
    const std::vector<int64_t> shape = {16 << 10, 4 << 10};  // 256 MiB, its states 512
    Parameter weight("w", shape, ShardSpec::Whole(shape), at::empty(shape, at::kFloat),
                     Initializer::Zeros());
    ZeroOptimizer optimizer({&weight}, {}, context);
    const auto checkpointer = Checkpointer::Create(
        {.output_dir = testing::TempDir() + "/out", .async_save = true}, optimizer, context);
    ASSERT_TRUE(checkpointer.ok()) << checkpointer.status();
    context.World().Barrier();
    // Enough for threads and the weights.
    std::unique_ptr<MemoryLimit> limit;
    if (context.rank() == 0) limit = std::make_unique<MemoryLimit>(640 << 20);
    context.World().Barrier();
    (*checkpointer)->BeginSave({}, {});
    (*checkpointer)->WaitForCopy();
    const absl::Status status = (*checkpointer)->FinishSave().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    context.World().Barrier();
  });
}

}  // namespace
}  // namespace lathe
