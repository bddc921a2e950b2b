#ifndef LATHE_CHECKPOINT_ATOMIC_DIRECTORY_H_
#define LATHE_CHECKPOINT_ATOMIC_DIRECTORY_H_

// A folder that several ranks fill and that is complete or not there. It grows under a hidden name
// beside its place (".lathe-tmp-checkpoint-100"); Commit writes the manifest, syncs and renames.
// Killed at any moment, it leaves at most that hidden folder, which RemoveLeftovers clears away at
// the next start.
//
//   ABSL_ASSIGN_OR_RETURN(auto directory, AtomicDirectory::Create("out", "checkpoint-100", group));
//   ABSL_RETURN_IF_ERROR(SaveTensors(*directory, "model", weights));        // checkpoint.h
//   if (group.rank == 0) directory->WriteFile("trainer_state.json", json);  // by any one rank
//   return directory->Commit();
//
// A failure of one rank is kept until the next collective, which then fails on all ranks alike: so
// a rank must not leave early, and need not. Should the group itself break (a dead peer), its
// exception passes through and the destructor clears up. When Commit fails (a full disk, say), the
// hidden folder is removed and what was there before is untouched. All ranks must see one file
// system.
//
// Thread rule: one thread per rank. "Collective" functions are called by all ranks in the same
// order.

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lathe/checkpoint/manifest.h"
#include "lathe/checkpoint/piecewise_crc32c.h"
#include "lathe/checkpoint/rank_group.h"

namespace lathe {

class AtomicDirectory {
 public:
  // Collective. Starts what will be PARENT/NAME; makes `parent` where needed and removes an
  // unfinished folder of the same name.
  // Errors (the same on all ranks): what the system says; FailedPrecondition when a rank does not
  // see what rank 0 made.
  static absl::StatusOr<std::unique_ptr<AtomicDirectory>> Create(const std::string& parent,
                                                                 const std::string& name,
                                                                 RankGroup group = {});

  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;
  // Not committed: rank 0 removes the hidden folder.
  ~AtomicDirectory();

  const std::string& path() const { return staging_; }  // the hidden folder
  const RankGroup& group() const { return group_; }

  // Local. Writes and syncs a whole file. Each name is written by one rank.
  void WriteFile(std::string_view name, std::string_view bytes);

  // Local, on one rank. Makes a file of `bytes` that starts with `head`; the ranks write the rest
  // in place, sync what they wrote, and report it with AddPart.
  void AllocateFile(std::string_view name, uint64_t bytes, std::string_view head);
  void AddPart(std::string_view name, const PiecewiseCrc32c& part);

  // Local. Keeps the first failure of this rank.
  void Fail(const absl::Status& status);

  // Collective. The first failure of any rank, on all of them; OK when there is none.
  absl::Status Agree();

  // Collective, last. Moves the folder to PARENT/NAME, in exchange for one that is already there.
  // Errors (the same on all ranks): a kept failure; DataLoss when the ranks' parts do not cover a
  // file; what the system says.
  absl::Status Commit();

  // Collective, last. Moves the files into PARENT itself instead, for a folder that has other
  // content beside. Each file is complete or absent; the manifest leaves first and comes last, so
  // that the set is known to be complete when it is there. Files of the manifest before that are no
  // longer written go.
  absl::Status CommitIntoParent();

 private:
  AtomicDirectory(std::string parent, std::string name, RankGroup group);

  absl::Status MakeStaging();
  absl::Status Allocate(std::string_view name, uint64_t bytes, std::string_view head);
  absl::StatusOr<Manifest> MergeParts(const std::vector<std::string>& parts_of_ranks) const;
  absl::Status WriteManifest(const Manifest& manifest);
  absl::Status MoveIntoPlace();
  absl::Status MoveFilesIntoParent(const Manifest& manifest);
  absl::Status Finish(bool into_parent);
  void RemoveStaging();

  const std::string parent_;
  const std::string name_;
  const std::string staging_;
  const RankGroup group_;
  bool staged_ = false;  // this rank is responsible for removing `staging_`
  absl::Status status_;
  bool failed_everywhere_ = false;  // `status_` is a failure that the ranks agreed on
  std::map<std::string, PiecewiseCrc32c, std::less<>> parts_;
};

}  // namespace lathe

#endif  // LATHE_CHECKPOINT_ATOMIC_DIRECTORY_H_
