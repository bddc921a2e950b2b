#include "lathe/checkpoint/thread_ranks.h"

#include <stdlib.h>

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "lathe/base/logging.h"

namespace lathe {
namespace {

class Meeting {
 public:
  explicit Meeting(int num_ranks) : texts_(num_ranks) {}

  std::vector<std::string> AllGather(int rank, std::string mine) {
    std::unique_lock lock(mutex_);
    // The texts of a round are read before the next round writes.
    changed_.wait(lock, [&] { return !leaving_; });
    texts_[rank] = std::move(mine);
    if (++present_ == texts_.size()) {
      leaving_ = true;
      changed_.notify_all();
    }
    changed_.wait(lock, [&] { return leaving_; });
    std::vector<std::string> texts = texts_;
    if (--present_ == 0) {
      leaving_ = false;
      changed_.notify_all();
    }
    return texts;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> texts_;
  size_t present_ = 0;
  bool leaving_ = false;
};

}  // namespace

void RunThreadRanks(int num_ranks, const std::function<void(const RankGroup& group)>& body) {
  Meeting meeting(num_ranks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < num_ranks; ++rank) {
    threads.emplace_back([&, rank] {
      body({.rank = rank, .num_ranks = num_ranks, .all_gather = [&, rank](std::string mine) {
              return meeting.AllGather(rank, std::move(mine));
            }});
    });
  }
  for (std::thread& thread : threads) thread.join();
}

std::string FreshFolder() {
  const char* const root = getenv("TEST_TMPDIR");
  std::string folder = std::string(root == nullptr ? "/tmp" : root) + "/lathe_test_XXXXXX";
  CHECK(mkdtemp(folder.data()) != nullptr) << folder;
  return folder;
}

}  // namespace lathe
