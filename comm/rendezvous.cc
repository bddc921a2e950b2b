#include "lathe/comm/rendezvous.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "c10/util/Exception.h"
#include "lathe/base/logging.h"
#include "torch/csrc/distributed/c10d/HashStore.hpp"
#include "torch/csrc/distributed/c10d/PrefixStore.hpp"
#include "torch/csrc/distributed/c10d/TCPStore.hpp"

namespace lathe {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr char kCommon[] = "common", kFailed[] = "failed", kAll[] = "all", kSeen[] = "seen";
constexpr milliseconds kFirstPause(5), kMostPause(200);
constexpr seconds kUntilNote(15);
// How long rank 0, which may serve the store, waits for the others to read why all end; and how
// long the others wait for its word after their own time is up.
constexpr seconds kToReadFailure(3), kForRank0(5);
constexpr size_t kMostRanksByName = 16;

// c10d's flight recorder is one object for all process groups and not safe when groups of several
// threads write to it (ranks as threads crashed there). It records nothing with a buffer of 0.
// Called before any thread of ours can read the environment; a value that the user set stays.
void TurnOffFlightRecorder() {
  static const int once = setenv("TORCH_FR_BUFFER_SIZE", "0", /*overwrite=*/0);
  (void)once;
}

std::vector<uint8_t> Bytes(std::string_view text) { return {text.begin(), text.end()}; }
std::string Text(const std::vector<uint8_t>& bytes) { return {bytes.begin(), bytes.end()}; }

std::string ClaimKey(int rank) { return absl::StrCat("claim/", rank); }
std::string HereKey(int rank) { return absl::StrCat("here/", rank); }

// The lines that differ first; both are there where neither text is the other's beginning.
std::string Difference(const RankCard& card, std::string_view of_rank_0) {
  const std::vector<std::string_view> mine = absl::StrSplit(card.common, '\n'),
                                      theirs = absl::StrSplit(of_rank_0, '\n');
  size_t i = 0;
  while (i < mine.size() && i < theirs.size() && mine[i] == theirs[i]) ++i;
  const auto line = [&](const std::vector<std::string_view>& lines) {
    if (i >= lines.size()) return std::string_view("nothing");
    return absl::StripSuffix(absl::StripAsciiWhitespace(lines[i]), ",");
  };
  return absl::StrCat("rank ", card.rank, " (", card.name, ") has ", line(mine),
                      " where rank 0 has ", line(theirs), "; all ranks need the same flags");
}

// One rank's side of the meeting. Store calls throw.
class Meeting {
 public:
  Meeting(c10d::Store& store, const RankCard& card, milliseconds timeout)
      : store_(store), card_(card), timeout_(timeout) {}

  absl::StatusOr<std::vector<std::string>> Run() {
    absl::Status mine = Claim();
    if (mine.ok()) mine = Compare();
    if (mine.ok()) mine = Wait();
    if (!mine.ok()) return Fail(mine);
    std::vector<std::string> addresses = absl::StrSplit(Text(store_.get(kAll)), '\n');
    return addresses;
  }

 private:
  absl::Status Claim() {
    // Two processes may have one name: of hosts with one name, or none.
    std::random_device random;
    const std::string mine = absl::StrCat(card_.name, "\n", random(), random());
    const std::string owner = Text(store_.compareSet(ClaimKey(card_.rank), Bytes(""), Bytes(mine)));
    if (owner == mine) return absl::OkStatus();
    return absl::AlreadyExistsError(
        absl::StrCat("rank ", card_.rank, " is there twice: ", owner.substr(0, owner.find('\n')),
                     " and ", card_.name,
                     "; is --node_rank (RANK) the same on two machines, or a run that has ended "
                     "badly still there?"));
  }

  // World size first: with another one nothing else can fit.
  absl::Status Compare() {
    const std::string world_size = absl::StrCat(card_.world_size);
    if (card_.rank == 0) {
      store_.set(kCommon, Bytes(absl::StrCat(world_size, "\n", card_.common)));
      return absl::OkStatus();
    }
    ABSL_RETURN_IF_ERROR(Until({kCommon}));
    const std::string text = Text(store_.get(kCommon));
    const std::pair<std::string_view, std::string_view> theirs =
        absl::StrSplit(text, absl::MaxSplits('\n', 1));
    if (theirs.first != world_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("rank ", card_.rank, " (", card_.name, ") belongs to ", world_size,
                       " ranks, but rank 0 to ", theirs.first,
                       "; --nnodes and --nproc_per_node (WORLD_SIZE) must be the same everywhere"));
    }
    if (theirs.second == card_.common) return absl::OkStatus();
    return absl::InvalidArgumentError(Difference(card_, theirs.second));
  }

  absl::Status Wait() {
    store_.set(HereKey(card_.rank), Bytes(card_.address));
    if (card_.rank > 0) return Until({kAll});
    std::vector<std::string> keys;
    for (int rank = 0; rank < card_.world_size; ++rank) keys.push_back(HereKey(rank));
    ABSL_RETURN_IF_ERROR(Until(keys));
    std::vector<std::string> addresses;
    for (const std::string& key : keys) addresses.push_back(Text(store_.get(key)));
    store_.set(kAll, Bytes(absl::StrJoin(addresses, "\n")));
    return absl::OkStatus();
  }

  // Until all keys are there. Errors: that of a rank that has failed; that time is up.
  absl::Status Until(const std::vector<std::string>& keys) {
    const Clock::time_point deadline =
        start_ + timeout_ + (card_.rank > 0 ? kForRank0 : seconds(0));
    milliseconds pause = kFirstPause;
    while (!store_.check(keys)) {
      if (store_.check({kFailed})) return Failure();
      const Clock::time_point now = Clock::now();
      if (now > deadline) return TooLate();
      if (card_.rank == 0 && !noted_ && now > start_ + kUntilNote) {
        noted_ = true;
        LOG(WARNING) << "Still waiting for " << Missing() << " of " << card_.world_size;
      }
      std::this_thread::sleep_for(pause);
      pause = std::min(kMostPause, pause * 2);
    }
    return absl::OkStatus();
  }

  absl::Status TooLate() {
    const std::string within =
        absl::StrCat(" within ", timeout_.count() / 1000, " s (--ddp_timeout)");
    if (card_.rank > 0) return absl::DeadlineExceededError("rank 0 has given no word" + within);
    return absl::DeadlineExceededError(
        absl::StrCat(Missing(), " of ", card_.world_size, " did not come", within,
                     "; were they started, and can they reach rank 0's machine?"));
  }

  // The one that was first, with its code.
  absl::Status Failure() {
    const std::string text = Text(store_.get(kFailed));
    return absl::Status(static_cast<absl::StatusCode>(text[0]), text.substr(1));
  }

  absl::Status Fail(const absl::Status& mine) {
    store_.compareSet(
        kFailed, Bytes(""),
        Bytes(absl::StrCat(std::string(1, static_cast<char>(mine.code())), mine.message())));
    const absl::Status first = Failure();
    store_.add(kSeen, 1);
    const Clock::time_point deadline = Clock::now() + kToReadFailure;
    // A rank of the same number as another has no claim, so there may be more that have seen it.
    while (card_.rank == 0 && Clock::now() < deadline && store_.add(kSeen, 0) < NumClaims()) {
      std::this_thread::sleep_for(kFirstPause);
    }
    return first;
  }

  int NumClaims() {
    int count = 0;
    for (int rank = 0; rank < card_.world_size; ++rank) count += store_.check({ClaimKey(rank)});
    return count;
  }

  std::string Missing() {
    std::vector<int> missing;
    for (int rank = 0; rank < card_.world_size; ++rank) {
      if (!store_.check({HereKey(rank)})) missing.push_back(rank);
    }
    const bool too_many = missing.size() > kMostRanksByName;
    if (too_many) missing.resize(kMostRanksByName);
    return absl::StrCat(missing.size() == 1 ? "rank " : "ranks ", absl::StrJoin(missing, ", "),
                        too_many ? " ..." : "");
  }

  c10d::Store& store_;
  const RankCard& card_;
  const milliseconds timeout_;
  const Clock::time_point start_ = Clock::now();
  bool noted_ = false;
};

}  // namespace

absl::StatusOr<RendezvousStore> OpenTcpStore(const std::string& host, int port, int world_size,
                                             bool is_server, std::chrono::milliseconds timeout) {
  TurnOffFlightRecorder();
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(port);
  options.isServer = is_server;
  options.numWorkers = world_size;
  // The server must not wait for workers here: a rank that dies before joining would block rank 0
  // silently.
  options.waitWorkers = false;
  options.timeout = timeout;
  const auto error = [&](std::string_view detail) {
    return absl::UnavailableError(
        absl::StrCat(is_server ? "rank 0 cannot listen at " : "rank 0 cannot be reached at ", host,
                     ":", port, " (--master_addr, --master_port; MASTER_ADDR, MASTER_PORT): ",
                     detail.substr(0, detail.find('\n'))));
  };
  try {
    return c10::make_intrusive<c10d::TCPStore>(host, options);
  } catch (const c10::Error& e) {
    return error(e.what_without_backtrace());
  } catch (const std::exception& e) {
    return error(e.what());
  }
}

RendezvousStore MakeThreadStore() {
  TurnOffFlightRecorder();
  return c10::make_intrusive<c10d::HashStore>();
}

RendezvousStore WithPrefix(const std::string& prefix, RendezvousStore store) {
  return c10::make_intrusive<c10d::PrefixStore>(prefix, std::move(store));
}

absl::StatusOr<std::vector<std::string>> MeetRanks(c10d::Store& store, const RankCard& card,
                                                   std::chrono::milliseconds timeout) {
  const auto gone = [](std::string_view detail) {
    return absl::UnavailableError(
        absl::StrCat("the store at which ranks meet is gone, with rank 0 maybe: ", detail));
  };
  try {
    return Meeting(store, card, timeout).Run();
  } catch (const c10::Error& e) {
    return gone(e.what_without_backtrace());
  } catch (const std::exception& e) {
    return gone(e.what());
  }
}

}  // namespace lathe
