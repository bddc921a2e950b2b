// Ranks as threads of one process over real Gloo on loopback: how tests run parallel code at
// degrees 1, 2, 4.
//
//   RunThreadRanks(*ProcessMesh::Create({{"tp", 4}}), [](const ParallelContext& context) {
//     ...;  // gtest EXPECT_* may be used; an exception fails the test with the rank's number
//   });
#ifndef LATHE_COMM_GLOO_THREAD_RANKS_H_
#define LATHE_COMM_GLOO_THREAD_RANKS_H_

#include <functional>

#include "lathe/comm/parallel_context.h"

namespace lathe {

// Runs `body` once per rank of `mesh`, each in its own thread, and joins them.
// at::set_num_threads(1) is set for the process: several ranks must not each start a pool. Throws
// the first rank's exception, its message prefixed with the rank.
void RunThreadRanks(const ProcessMesh& mesh,
                    const std::function<void(const ParallelContext&)>& body);

}  // namespace lathe

#endif  // LATHE_COMM_GLOO_THREAD_RANKS_H_
