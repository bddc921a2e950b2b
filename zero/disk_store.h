// DiskStore: tensors on a disk, read and written while training goes on.
//
//   ABSL_ASSIGN_OR_RETURN(auto disk, DiskStore::Create("/local_nvme", {}));
//   const DiskStore::Region moments = disk->Reserve(4 * elements);
//   at::Tensor all = disk->Map(moments, elements, at::kFloat);        // to fill, save and load
//   at::Tensor buffer = DiskStore::Buffer(1 << 20, at::kFloat);       // [elements], aligned
//   auto pending = disk->Read(moments, /*first_byte=*/0, buffer);     // to compute
//   pending.Wait();
//   disk->Write(moments, 0, buffer).Wait();
//
// One file without a name in the folder given, which is gone with the process, however that ends.
// Reads and writes go past the page cache (O_DIRECT) where the file system lets them, by io_uring,
// several blocks at a time, on a thread of the store's own. A mapping is of the same bytes through
// the page cache; the kernel keeps both in step, as long as a range is not written by both at once.
//
// Thread rule: one thread uses a store; transfers run on the store's. Errors at a transfer or for
// want of space: DiskError, since they come in the middle of training.
//
// Source: Rajbhandari et al., ZeRO-Infinity (2021), section 6.3; io_uring(7).
#ifndef LATHE_ZERO_DISK_STORE_H_
#define LATHE_ZERO_DISK_STORE_H_

#include <cstdint>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "ATen/core/Tensor.h"
#include "absl/status/statusor.h"
#include "lathe/zero/zero_settings.h"

namespace lathe {

class DiskError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

class PendingTransfer {
 public:
  PendingTransfer() = default;
  explicit PendingTransfer(std::shared_future<void> done) : done_(std::move(done)) {}
  // Returns when the transfer is complete; throws its DiskError. Idempotent.
  void Wait() const {
    if (done_.valid()) done_.get();
  }

 private:
  std::shared_future<void> done_;
};

class DiskStore {
 public:
  // Regions, and transfers within them, start at multiples of this.
  static constexpr int64_t kAlignment = 4096;

  struct Region {
    int64_t offset = 0, bytes = 0;  // in the file
  };

  // `folder`: an existing one, on the disk that is meant. Errors: it is missing or cannot be
  // written, or the kernel has no io_uring.
  static absl::StatusOr<std::unique_ptr<DiskStore>> Create(const std::string& folder,
                                                           const DiskSettings& settings);
  ~DiskStore();
  DiskStore(const DiskStore&) = delete;

  // Space, all zero. Throws DiskError if the disk has no more.
  Region Reserve(int64_t bytes);

  // The region's first elements, [elements]; the mapping lives as long as the tensor.
  at::Tensor Map(const Region& region, int64_t elements, at::ScalarType type) const;

  // Memory that Read and Write take, [elements], at least `elements` long and aligned.
  static at::Tensor Buffer(int64_t elements, at::ScalarType type);

  // Starts to move buffer.nbytes() bytes, from `first_byte` of the region on; what is missing to a
  // multiple of kAlignment moves too, as Buffer has room for it. The buffer must not be touched
  // before Wait. `first_byte` is a multiple of kAlignment.
  PendingTransfer Read(const Region& region, int64_t first_byte, const at::Tensor& buffer);
  PendingTransfer Write(const Region& region, int64_t first_byte, const at::Tensor& buffer);

  // Whether reads and writes go past the page cache.
  bool is_direct() const { return is_direct_; }
  const std::string& folder() const { return folder_; }
  // What all Reserves together take.
  int64_t bytes() const { return size_; }

 private:
  class Worker;

  DiskStore(std::string folder, int descriptor, bool is_direct);
  PendingTransfer Post(bool writes, const Region& region, int64_t first_byte,
                       const at::Tensor& buffer);

  const std::string folder_;
  const int descriptor_;
  const bool is_direct_;
  int64_t size_ = 0;
  std::unique_ptr<Worker> worker_;
};

// A tensor's place on a disk; `disk` is null for one that is in memory.
struct DiskTensor {
  DiskStore* disk = nullptr;
  DiskStore::Region region;
};

}  // namespace lathe

#endif  // LATHE_ZERO_DISK_STORE_H_
