#include "lathe/base/beacon.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"

namespace lathe {
namespace {

constexpr char kVariable[] = "LATHE_BEACON";
constexpr uint64_t kMagic = 0x31766e636274616cu;
constexpr auto kRelaxed = std::memory_order_relaxed;

// A text that one process writes while another reads: at worst the reader sees two mixed.
class SharedText {
 public:
  void Set(std::string_view text) {
    std::array<char, kBytes> bytes = {};
    std::memcpy(bytes.data(), text.data(), std::min(text.size(), kBytes - 1));
    for (size_t i = 0; i < words_.size(); ++i) {
      uint64_t word;
      std::memcpy(&word, bytes.data() + 8 * i, 8);
      words_[i].store(word, kRelaxed);
    }
  }
  void Clear() { words_[0].store(0, kRelaxed); }
  std::string Get() const {
    std::array<char, kBytes + 1> bytes = {};
    for (size_t i = 0; i < words_.size(); ++i) {
      const uint64_t word = words_[i].load(kRelaxed);
      std::memcpy(bytes.data() + 8 * i, &word, 8);
    }
    return bytes.data();
  }

 private:
  static constexpr size_t kBytes = 64;
  std::array<std::atomic<uint64_t>, kBytes / 8> words_;
};

// One rank's. Its own cache lines: ranks do not disturb each other. Zeros are the fresh state.
struct alignas(128) Beacon {
  std::atomic<uint64_t> magic;
  std::atomic<uint64_t> signs;
  std::atomic<int64_t> steps;  // step + 1
  std::atomic<int> phase;
  SharedText collective;
};
static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<int>::is_always_lock_free);
static_assert(sizeof(Beacon) == 128);

std::atomic<Beacon*> mine = nullptr;
thread_local bool hides_collectives = false;

Beacon* At(void* memory, int rank) { return static_cast<Beacon*>(memory) + rank; }

// Maps all beacons behind the descriptor; null when it is no board.
void* Map(int descriptor, int* num_ranks) {
  struct stat info;
  if (fstat(descriptor, &info) != 0 || info.st_size == 0 || info.st_size % sizeof(Beacon) != 0) {
    return nullptr;
  }
  void* const memory =
      mmap(nullptr, info.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (memory == MAP_FAILED) return nullptr;
  *num_ranks = static_cast<int>(info.st_size / sizeof(Beacon));
  if (At(memory, 0)->magic.load(kRelaxed) == kMagic) return memory;
  munmap(memory, info.st_size);
  return nullptr;
}

}  // namespace

std::string_view PhaseName(Phase phase) {
  constexpr std::string_view kNames[] = {"start",     "data",      "forward",    "backward",
                                         "reduction", "optimizer", "evaluation", "save"};
  const auto index = static_cast<size_t>(phase);
  return index < std::size(kNames) ? kNames[index] : "unknown";
}

absl::Status ConnectBeacon() {
  const char* const offer = std::getenv(kVariable);
  if (offer == nullptr) return absl::OkStatus();
  int descriptor = -1, rank = -1, num_ranks = 0, length = 0;
  void* memory = nullptr;
  if (std::sscanf(offer, "%d:%d%n", &descriptor, &rank, &length) == 2 && offer[length] == 0) {
    memory = Map(descriptor, &num_ranks);
  }
  if (memory == nullptr || rank < 0 || rank >= num_ranks) {
    return absl::InvalidArgumentError(
        absl::StrCat("environment variable ", kVariable, "=", offer,
                     " is not of the launcher that started this process; unset it"));
  }
  close(descriptor);
  unsetenv(kVariable);  // processes that this one starts are no ranks
  mine.store(At(memory, rank), kRelaxed);
  return absl::OkStatus();
}

void GiveSign() {
  if (Beacon* const beacon = mine.load(kRelaxed)) beacon->signs.fetch_add(1, kRelaxed);
}

void BeginPhase(Phase phase, int64_t step) {
  Beacon* const beacon = mine.load(kRelaxed);
  if (beacon == nullptr) return;
  if (step >= 0) beacon->steps.store(step + 1, kRelaxed);
  beacon->phase.store(static_cast<int>(phase), kRelaxed);
  beacon->signs.fetch_add(1, kRelaxed);
}

InCollective::InCollective(std::string_view op, std::string_view group)
    : exceptions_(std::uncaught_exceptions()) {
  Beacon* const beacon = mine.load(kRelaxed);
  if (beacon == nullptr) return;
  if (!hides_collectives) beacon->collective.Set(absl::StrCat(op, " in group '", group, "'"));
  beacon->signs.fetch_add(1, kRelaxed);
}

InCollective::~InCollective() {
  Beacon* const beacon = mine.load(kRelaxed);
  if (beacon == nullptr) return;
  if (!hides_collectives && std::uncaught_exceptions() == exceptions_) beacon->collective.Clear();
  beacon->signs.fetch_add(1, kRelaxed);
}

HideCollectives::HideCollectives() { hides_collectives = true; }

HideCollectives::~HideCollectives() { hides_collectives = false; }

absl::StatusOr<BeaconBoard> BeaconBoard::Create(int num_ranks) {
  // Without MFD_CLOEXEC: the ranks inherit it.
  const int descriptor = memfd_create(std::string(kName).c_str(), 0);
  const off_t bytes = static_cast<off_t>(num_ranks * sizeof(Beacon));
  void* memory = MAP_FAILED;
  if (descriptor >= 0 && ftruncate(descriptor, bytes) == 0) {
    memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  }
  if (memory == MAP_FAILED) {
    const absl::Status status = absl::ErrnoToStatus(errno, "cannot make the ranks' shared memory");
    if (descriptor >= 0) close(descriptor);
    return status;
  }
  for (int rank = 0; rank < num_ranks; ++rank) At(memory, rank)->magic.store(kMagic, kRelaxed);
  return BeaconBoard(descriptor, memory, num_ranks);
}

absl::StatusOr<BeaconBoard> BeaconBoard::Open(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  int num_ranks = 0;
  void* const memory = Map(descriptor, &num_ranks);
  if (memory != nullptr) return BeaconBoard(descriptor, memory, num_ranks);
  close(descriptor);
  return absl::InvalidArgumentError(absl::StrCat(path, " holds no beacons"));
}

BeaconBoard::BeaconBoard(BeaconBoard&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      memory_(std::exchange(other.memory_, nullptr)),
      num_ranks_(other.num_ranks_) {}

BeaconBoard::~BeaconBoard() {
  if (memory_ != nullptr) munmap(memory_, num_ranks_ * sizeof(Beacon));
  if (descriptor_ >= 0) close(descriptor_);
}

void BeaconBoard::Offer(int rank) const {
  setenv(kVariable, absl::StrCat(descriptor_, ":", rank).c_str(), 1);
}

BeaconReading BeaconBoard::Read(int rank) const {
  const Beacon& beacon = *At(memory_, rank);
  return {.signs = beacon.signs.load(kRelaxed),
          .step = beacon.steps.load(kRelaxed) - 1,
          .phase = static_cast<Phase>(beacon.phase.load(kRelaxed)),
          .collective = beacon.collective.Get()};
}

}  // namespace lathe
