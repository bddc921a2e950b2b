// A rank's sign of life: what it does now, in memory that it shares with the launcher that started
// it. The launcher reads there who has stopped moving, and where a rank was when it died.
//
//   launcher                                            rank
//   auto board = BeaconBoard::Create(num_ranks);        ConnectBeacon();  // first thing in main
//   if (fork() == 0) { board->Offer(rank); exec }       BeginPhase(Phase::kForward, step);
//   board->Read(rank).collective                        { InCollective in("barrier", "dp"); ... }
//
// The memory is an anonymous file that ranks inherit by descriptor: it has no name and is gone with
// the last of them. Signs are relaxed atomic stores: no system call, some nanoseconds, hundreds for
// a collective. A process that no launcher of ours has started has no beacon, and every sign does
// nothing.
//
// Where signs are given: each phase and micro batch (trainer, pipeline_parallel, zero), each
// collective (comm), each call on a checkpoint's file (checkpoint), each piece of text tokenised
// and each weight made (launchers).
//
// Thread rule: signs may come from any thread; of several in collectives at once the latest shows.
#ifndef LATHE_BASE_BEACON_H_
#define LATHE_BASE_BEACON_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lathe {

enum class Phase { kStart, kData, kForward, kBackward, kReduction, kOptimizer, kEvaluation, kSave };

// "start", "data", "forward" …
std::string_view PhaseName(Phase phase);

// Rank: finds the beacon that the launcher offers in the environment, if there is one. Call before
// the first thread. Errors: InvalidArgument, where LATHE_BEACON is set to something else.
absl::Status ConnectBeacon();

// I move.
void GiveSign();
// I move, in this phase from now on; `step` < 0: in the same step as before.
void BeginPhase(Phase phase, int64_t step = -1);

// I wait for other ranks in a collective until the end of the scope. When an exception leaves it,
// the collective remains on the beacon: it says where the rank failed.
class InCollective {
 public:
  InCollective(std::string_view op, std::string_view group);
  ~InCollective();
  InCollective(const InCollective&) = delete;
  InCollective& operator=(const InCollective&) = delete;

 private:
  const int exceptions_;
};

// This thread works in the background (it writes a checkpoint, say): until the end of the scope its
// collectives do not show, since the rank does not wait for them.
class HideCollectives {
 public:
  HideCollectives();
  ~HideCollectives();
  HideCollectives(const HideCollectives&) = delete;
  HideCollectives& operator=(const HideCollectives&) = delete;
};

struct BeaconReading {
  uint64_t signs = 0;  // how many so far: it stands still when the rank does
  int64_t step = -1;   // -1: before the first
  Phase phase = Phase::kStart;
  std::string collective;  // "all-reduce in group 'dp'"; empty outside of one
};

// Launcher: the beacons of its ranks.
class BeaconBoard {
 public:
  // Errors: what the system says.
  static absl::StatusOr<BeaconBoard> Create(int num_ranks);
  // Another process's board, by the path of a descriptor: /proc/PID/fd/N. For tests.
  static absl::StatusOr<BeaconBoard> Open(const std::string& path);

  BeaconBoard(BeaconBoard&& other) noexcept;
  BeaconBoard& operator=(BeaconBoard&&) = delete;
  ~BeaconBoard();

  // In the process that becomes `rank`, between fork and exec.
  void Offer(int rank) const;

  // What the rank has said last, also after its end. The fields are read one by one: of a rank that
  // moves they may be of different moments.
  BeaconReading Read(int rank) const;

  // What /proc calls the descriptor.
  static constexpr std::string_view kName = "lathe_beacons";

 private:
  BeaconBoard(int descriptor, void* memory, int num_ranks)
      : descriptor_(descriptor), memory_(memory), num_ranks_(num_ranks) {}

  int descriptor_;
  void* memory_;
  int num_ranks_;
};

}  // namespace lathe

#endif  // LATHE_BASE_BEACON_H_
