#ifndef LATHE_CHECKPOINT_CHECKPOINT_DIRECTORY_H_
#define LATHE_CHECKPOINT_CHECKPOINT_DIRECTORY_H_

// The output folder of a run: its checkpoint-N folders, which of them to resume from and which to
// delete.
//
//   ABSL_ASSIGN_OR_RETURN(OutputLock lock, OutputLock::Acquire(output_dir));      // output_lock.h
//   ABSL_RETURN_IF_ERROR(RemoveLeftovers(output_dir));
//   ABSL_ASSIGN_OR_RETURN(auto last, FindLastCheckpoint(output_dir));
//   if (!last) ABSL_RETURN_IF_ERROR(CheckOutputDirectoryIsFree(output_dir, {"runs"}));
//   ...
//   ABSL_RETURN_IF_ERROR(RotateCheckpoints(output_dir, 2, {"checkpoint-300", best}));
//
// Thread rule: one thread of one process (rank 0) per output folder, under its lock;
// CheckSharedDirectory is collective.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "lathe/checkpoint/rank_group.h"

namespace lathe {

// "checkpoint-100".
std::string CheckpointName(int64_t step);

// 100 for "checkpoint-100"; nullopt for any other form of name.
std::optional<int64_t> CheckpointStep(std::string_view name);

// Whether there is any checkpoint-N, whole or damaged. False for an absent folder.
absl::StatusOr<bool> HasCheckpoints(const std::string& output_dir);

// The path of the newest (largest N) checkpoint whose files are all as they were written; every
// file of it is read for that. A newer one that is damaged or incomplete is passed over with a
// warning that names what is wrong. nullopt when there is no checkpoint-N at all (or no output
// folder).
// Errors: FailedPrecondition when there are some but none can be used, naming each reason: starting
// over in silence would lose work.
absl::StatusOr<std::optional<std::string>> FindLastCheckpoint(const std::string& output_dir);

// The refusal of the training scripts: a run that resumes from nothing wants an output folder that
// is absent or empty. Lathe's own lock and `own_entries` (logs of a run that was killed before its
// first checkpoint) do not count.
// Errors: FailedPrecondition naming the first entry that is in the way.
absl::Status CheckOutputDirectoryIsFree(const std::string& output_dir,
                                        absl::Span<const std::string> own_entries = {});

// Deletes the checkpoints of the smallest N until `save_total_limit` are left; 0 and less keep all.
// Never deletes the newest nor those in `protect` (names or paths: the one just saved, the best),
// nor folders without a manifest, which Lathe did not write. A deletion that is interrupted leaves
// no half checkpoint.
absl::Status RotateCheckpoints(const std::string& output_dir, int64_t save_total_limit,
                               absl::Span<const std::string> protect);

// Deletes all of Lathe's checkpoints but `keep` (a name or path), the newest too: for a run that is
// done and whose model is saved elsewhere.
absl::Status RemoveOtherCheckpoints(const std::string& output_dir, std::string_view keep);

// Removes what crashed runs left unfinished in the folder; nothing else. Logs what it removes.
absl::Status RemoveLeftovers(const std::string& output_dir);

// Collective. Makes sure that all ranks see the same folder: rank 0 writes a random token there,
// all read it.
// Errors: FailedPrecondition naming a rank that does not.
absl::Status CheckSharedDirectory(const std::string& output_dir, const RankGroup& group);

}  // namespace lathe

#endif  // LATHE_CHECKPOINT_CHECKPOINT_DIRECTORY_H_
