#ifndef LATHE_CHECKPOINT_THREAD_RANKS_H_
#define LATHE_CHECKPOINT_THREAD_RANKS_H_

// For tests: threads of one process as the ranks of a RankGroup, and folders to work in.

#include <functional>
#include <string>

#include "lathe/checkpoint/rank_group.h"

namespace lathe {

// Runs body(group) on `num_ranks` threads, one per rank, and returns when all have.
void RunThreadRanks(int num_ranks, const std::function<void(const RankGroup& group)>& body);

// A new empty folder for the running test.
std::string FreshFolder();

}  // namespace lathe

#endif  // LATHE_CHECKPOINT_THREAD_RANKS_H_
