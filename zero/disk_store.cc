#include "lathe/zero/disk_store.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "ATen/ops/empty.h"
#include "ATen/ops/from_blob.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "c10/util/Exception.h"
#include "liburing.h"

namespace lathe {
namespace {

int64_t RoundUp(int64_t bytes) {
  return (bytes + DiskStore::kAlignment - 1) / DiskStore::kAlignment * DiskStore::kAlignment;
}

}  // namespace

// Cuts transfers into blocks and keeps some of them in flight, in the order in which they came.
class DiskStore::Worker {
 public:
  Worker(const std::string& folder, int descriptor, const DiskSettings& settings)
      : folder_(folder),
        descriptor_(descriptor),
        block_bytes_(std::max<int64_t>(RoundUp(settings.block_size_bytes), kAlignment)),
        blocks_(settings.queue_depth) {
    for (Block& block : blocks_) free_.push_back(&block);
  }

  // 0, or the error number.
  int Start() {
    const int error = -io_uring_queue_init(static_cast<unsigned>(blocks_.size()), &ring_, 0);
    if (error == 0) thread_ = std::thread([this] { Loop(); });
    return error;
  }

  ~Worker() {
    if (!thread_.joinable()) return;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
    io_uring_queue_exit(&ring_);
  }

  std::shared_future<void> Post(bool writes, int64_t offset, int64_t bytes, at::Tensor buffer) {
    auto transfer = std::make_shared<Transfer>();
    transfer->writes = writes;
    transfer->data = static_cast<char*>(buffer.data_ptr());
    transfer->offset = offset;
    transfer->bytes = bytes;
    transfer->buffer = std::move(buffer);
    std::shared_future<void> done = transfer->done.get_future().share();
    {
      std::lock_guard<std::mutex> lock(mutex_);
      queue_.push_back(std::move(transfer));
    }
    changed_.notify_all();
    return done;
  }

 private:
  struct Transfer {
    bool writes = false;
    char* data = nullptr;
    int64_t offset = 0, bytes = 0;
    at::Tensor buffer;  // keeps the memory
    int64_t cut = 0;    // bytes that are in blocks already
    int64_t moved = 0;
    int blocks_in_flight = 0;
    std::string error;
    std::promise<void> done;
  };
  struct Block {
    std::shared_ptr<Transfer> transfer;
    int64_t begin = 0, bytes = 0;  // of the transfer
  };

  void Loop() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return stop_ || !queue_.empty() || InFlight() > 0; });
      if (stop_ && InFlight() == 0) return;  // what is queued has nobody who waits
      while (!stop_ && !free_.empty() && !queue_.empty()) CutBlock();
      lock.unlock();
      Reap();
      lock.lock();
    }
  }

  size_t InFlight() const { return blocks_.size() - free_.size(); }

  // The next block of the first transfer goes on its way.
  void CutBlock() {
    const std::shared_ptr<Transfer> transfer = queue_.front();
    if (!transfer->error.empty()) return queue_.pop_front();
    Block* block = free_.back();
    free_.pop_back();
    block->transfer = transfer;
    block->begin = transfer->cut;
    block->bytes = std::min(block_bytes_, transfer->bytes - transfer->cut);
    transfer->cut += block->bytes;
    ++transfer->blocks_in_flight;
    Submit(block);
    if (transfer->cut == transfer->bytes) queue_.pop_front();
  }

  void Submit(Block* block) {
    const Transfer& transfer = *block->transfer;
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);  // there are as many as blocks
    const auto bytes = static_cast<unsigned>(block->bytes);
    const auto at = static_cast<uint64_t>(transfer.offset + block->begin);
    if (transfer.writes) {
      io_uring_prep_write(entry, descriptor_, transfer.data + block->begin, bytes, at);
    } else {
      io_uring_prep_read(entry, descriptor_, transfer.data + block->begin, bytes, at);
    }
    io_uring_sqe_set_data(entry, block);
    io_uring_submit(&ring_);
  }

  // Waits for a block, and takes all that are done.
  void Reap() {
    io_uring_cqe* completion = nullptr;
    if (InFlight() == 0) return;
    if (io_uring_wait_cqe(&ring_, &completion) != 0) return;  // interrupted by a signal
    do {
      Finish(static_cast<Block*>(io_uring_cqe_get_data(completion)), completion->res);
      io_uring_cqe_seen(&ring_, completion);
    } while (io_uring_peek_cqe(&ring_, &completion) == 0);
  }

  void Finish(Block* block, int result) {
    Transfer& transfer = *block->transfer;
    if (result == -EINTR || result == -EAGAIN) return Submit(block);
    if (result > 0 && result < block->bytes) {  // the rest is asked for again
      transfer.moved += result;
      block->begin += result;
      block->bytes -= result;
      return Submit(block);
    }
    if (result == block->bytes) {
      transfer.moved += result;
    } else if (transfer.error.empty()) {
      transfer.error = absl::StrCat(
          "cannot ", transfer.writes ? "write to" : "read from", " the offload file in ", folder_,
          ": ", result == 0 ? "it is shorter than it was made" : std::strerror(-result));
    }
    --transfer.blocks_in_flight;
    if (transfer.blocks_in_flight == 0 &&
        (transfer.moved == transfer.bytes || !transfer.error.empty())) {
      transfer.buffer.reset();
      if (transfer.error.empty()) {
        transfer.done.set_value();
      } else {
        transfer.done.set_exception(std::make_exception_ptr(DiskError(transfer.error)));
      }
    }
    block->transfer.reset();
    std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(block);
  }

  const std::string folder_;
  const int descriptor_;
  const int64_t block_bytes_;
  std::vector<Block> blocks_;
  std::vector<Block*> free_;
  io_uring ring_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Transfer>> queue_;  // those with bytes that are in no block yet
  bool stop_ = false;
  std::thread thread_;
};

namespace {

// A file without a name, or one whose name is taken away at once; −1 and errno.
int OpenUnnamed(const std::string& folder, int flags) {
  const int descriptor = open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC | flags, 0600);
  if (descriptor >= 0 || (errno != EOPNOTSUPP && errno != EISDIR)) return descriptor;
  std::string path = folder + "/lathe-offload-XXXXXX";
  const int named = mkostemp(path.data(), O_CLOEXEC | flags);
  if (named >= 0) unlink(path.c_str());
  return named;
}

}  // namespace

DiskStore::DiskStore(std::string folder, int descriptor, bool is_direct)
    : folder_(std::move(folder)), descriptor_(descriptor), is_direct_(is_direct) {}

absl::StatusOr<std::unique_ptr<DiskStore>> DiskStore::Create(const std::string& folder,
                                                             const DiskSettings& settings) {
  int descriptor = OpenUnnamed(folder, O_DIRECT);
  const bool is_direct = descriptor >= 0;
  if (descriptor < 0 && errno == EINVAL) descriptor = OpenUnnamed(folder, 0);
  if (descriptor < 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("nvme_path ", folder, ": cannot make a file there: ", std::strerror(errno),
                     "; give an existing folder of a disk that can be written"));
  }
  std::unique_ptr<DiskStore> store(new DiskStore(folder, descriptor, is_direct));
  store->worker_ = std::make_unique<Worker>(folder, descriptor, settings);
  if (const int error = store->worker_->Start(); error != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "offload to nvme needs the kernel's io_uring, which is not to be had here: ",
        std::strerror(error), "; a container may forbid it (seccomp), or set device to \"cpu\""));
  }
  return store;
}

DiskStore::~DiskStore() {
  worker_.reset();
  close(descriptor_);
}

DiskStore::Region DiskStore::Reserve(int64_t bytes) {
  const Region region{size_, RoundUp(bytes)};
  if (region.bytes == 0) return region;
  int error = fallocate(descriptor_, 0, region.offset, region.bytes) == 0 ? 0 : errno;
  // A file system that cannot set space aside may still run out of it later, which is said then.
  if (error == EOPNOTSUPP) {
    error = ftruncate(descriptor_, region.offset + region.bytes) == 0 ? 0 : errno;
  }
  if (error != 0) {
    throw DiskError(absl::StrFormat(
        "nvme_path %s: no room for %.1f GB more of offloaded states, %.1f GB are there already: %s",
        folder_, static_cast<double>(region.bytes) / 1e9, static_cast<double>(size_) / 1e9,
        std::strerror(error)));
  }
  size_ += region.bytes;
  return region;
}

at::Tensor DiskStore::Map(const Region& region, int64_t elements, at::ScalarType type) const {
  const at::TensorOptions options = at::TensorOptions().dtype(type);
  if (elements == 0) return at::empty({0}, options);
  const auto bytes = static_cast<size_t>(region.bytes);
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_, region.offset);
  if (data == MAP_FAILED) {
    throw DiskError(absl::StrCat("nvme_path ", folder_,
                                 ": cannot map the offload file: ", std::strerror(errno)));
  }
  return at::from_blob(data, {elements}, [bytes](void* at) { munmap(at, bytes); }, options);
}

at::Tensor DiskStore::Buffer(int64_t elements, at::ScalarType type) {
  const auto size = static_cast<int64_t>(c10::elementSize(type));
  const at::Tensor memory = at::empty({RoundUp(elements * size) + kAlignment}, at::kByte);
  const auto address = reinterpret_cast<intptr_t>(memory.data_ptr());
  return memory.narrow(0, RoundUp(address) - address, elements * size).view(type);
}

PendingTransfer DiskStore::Post(bool writes, const Region& region, int64_t first_byte,
                                const at::Tensor& buffer) {
  const int64_t bytes = RoundUp(static_cast<int64_t>(buffer.nbytes()));
  TORCH_CHECK(first_byte % kAlignment == 0 && first_byte + bytes <= region.bytes &&
                  reinterpret_cast<intptr_t>(buffer.data_ptr()) % kAlignment == 0,
              "a transfer of ", bytes, " bytes at ", first_byte, " of a region of ", region.bytes,
              " is not aligned or not inside");
  if (bytes == 0) return PendingTransfer();
  return PendingTransfer(worker_->Post(writes, region.offset + first_byte, bytes, buffer));
}

PendingTransfer DiskStore::Read(const Region& region, int64_t first_byte,
                                const at::Tensor& buffer) {
  return Post(/*writes=*/false, region, first_byte, buffer);
}

PendingTransfer DiskStore::Write(const Region& region, int64_t first_byte,
                                 const at::Tensor& buffer) {
  return Post(/*writes=*/true, region, first_byte, buffer);
}

}  // namespace lathe
