#include "lathe/datasets/tokenize.h"

#include <algorithm>
#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

namespace lathe {
namespace {

// A thread takes so many documents at a time: enough that the lock costs nothing, few enough that
// the threads end together.
constexpr int64_t kDocumentsPerTask = 32;

// Threads take tasks in order and hand the results in, in the same order: thread t waits until the
// tasks before its own are in. So the first error in document order is the one that is kept.
class TokenizeJob {
 public:
  TokenizeJob(const JsonlSource& source, EncodeFunction encode, const TokenizeOptions& options)
      : source_(source), encode_(encode), options_(options) {}

  void Work() {
    std::vector<int32_t> ids;
    std::vector<int64_t> lengths;
    for (;;) {
      int64_t first;
      {
        absl::MutexLock lock(mutex_);
        if (ended_ || next_ >= source_.size()) return;
        first = next_;
        next_ = std::min(next_ + kDocumentsPerTask, source_.size());
      }
      const int64_t last = std::min(first + kDocumentsPerTask, source_.size());
      ids.clear();
      lengths.clear();
      absl::Status status;
      std::exception_ptr thrown;
      try {
        status = Encode(first, last, &ids, &lengths);
      } catch (...) {
        thrown = std::current_exception();
      }
      if (!HandIn(first, last, ids, lengths, std::move(status), thrown)) return;
    }
  }

  absl::StatusOr<TokenStore> Result() && {
    absl::MutexLock lock(mutex_);
    if (thrown_) std::rethrow_exception(thrown_);
    ABSL_RETURN_IF_ERROR(status_);
    return std::move(store_);
  }

 private:
  absl::Status Encode(int64_t first, int64_t last, std::vector<int32_t>* ids,
                      std::vector<int64_t>* lengths) const {
    for (int64_t i = first; i < last; ++i) {
      if (options_.before_document) {
        ABSL_RETURN_IF_ERROR(options_.before_document());
      }
      ABSL_ASSIGN_OR_RETURN(const std::string text, source_.Text(i));
      const size_t before = ids->size();
      const absl::Status status = encode_(text, ids);
      if (!status.ok()) {
        return absl::Status(status.code(), absl::StrCat(source_.Where(i), ": ", status.message()));
      }
      lengths->push_back(static_cast<int64_t>(ids->size() - before));
    }
    return absl::OkStatus();
  }

  // True when there is more to do.
  bool HandIn(int64_t first, int64_t last, const std::vector<int32_t>& ids,
              const std::vector<int64_t>& lengths, absl::Status status, std::exception_ptr thrown) {
    absl::MutexLock lock(mutex_);
    auto my_turn = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return ended_ || done_ == first; };
    mutex_.Await(absl::Condition(&my_turn));
    if (ended_) return false;
    if (thrown || !status.ok()) {
      thrown_ = thrown;
      status_ = std::move(status);
      ended_ = true;
      return false;
    }
    store_.AppendDocuments(ids, lengths);
    done_ = last;
    if (options_.progress) options_.progress(done_, source_.size());
    return true;
  }

  const JsonlSource& source_;
  const EncodeFunction encode_;
  const TokenizeOptions& options_;

  absl::Mutex mutex_;
  int64_t next_ ABSL_GUARDED_BY(mutex_) = 0;  // the first document that nobody has taken
  int64_t done_ ABSL_GUARDED_BY(mutex_) = 0;  // the documents before it are in the store
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::exception_ptr thrown_ ABSL_GUARDED_BY(mutex_);
  TokenStore store_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<TokenStore> TokenizeDocuments(const JsonlSource& source, EncodeFunction encode,
                                             const TokenizeOptions& options) {
  TokenizeJob job(source, encode, options);
  const int64_t most_workers = (source.size() + kDocumentsPerTask - 1) / kDocumentsPerTask;
  const int64_t num_workers = std::clamp<int64_t>(options.num_workers, 1, most_workers);
  std::vector<std::thread> threads;
  try {
    for (int64_t i = 1; i < num_workers; ++i) threads.emplace_back([&job] { job.Work(); });
  } catch (const std::system_error&) {
    // The system gives no more threads: those that there are do the work.
  }
  job.Work();
  for (std::thread& thread : threads) thread.join();
  return std::move(job).Result();
}

}  // namespace lathe
