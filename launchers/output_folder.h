// The output folder of a run, before anybody trains: locked against other runs, cleared of what a
// killed run left unfinished, and found to be a place where this run may begin or go on.
//
//   ABSL_ASSIGN_OR_RETURN(const OutputFolder output,
//                         ClaimOutputFolder(arguments, MakeRankGroup(context->World())));
//   trainer.Train(output.resume_from);
#ifndef LATHE_LAUNCHERS_OUTPUT_FOLDER_H_
#define LATHE_LAUNCHERS_OUTPUT_FOLDER_H_

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "lathe/checkpoint/output_lock.h"
#include "lathe/checkpoint/rank_group.h"
#include "lathe/trainer/training_arguments.pb.h"

namespace lathe {

struct OutputFolder {
  std::optional<OutputLock> lock;  // on rank 0, for as long as this lives
  std::string resume_from;         // a checkpoint; "" to begin anew
};

// Collective. --output_dir, --resume_from_checkpoint and --logging_dir decide; every file of the
// checkpoint that is chosen has been read and compared with its checksum. Errors (the same on all
// ranks): FailedPrecondition when another run holds the folder, when it has other content and no
// checkpoint, when checkpoints are there but damaged, when they are there and
// --resume_from_checkpoint is false, and when not all ranks see the folder; NotFound and DataLoss
// for a checkpoint that --resume_from_checkpoint names.
absl::StatusOr<OutputFolder> ClaimOutputFolder(const TrainingArguments& arguments,
                                               const RankGroup& ranks);

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_OUTPUT_FOLDER_H_
