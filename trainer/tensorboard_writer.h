#ifndef LATHE_TRAINER_TENSORBOARD_WRITER_H_
#define LATHE_TRAINER_TENSORBOARD_WRITER_H_

// Event files that TensorBoard (and the importers of swanlab and wandb) read.
//
//   ABSL_ASSIGN_OR_RETURN(auto writer, TensorBoardWriter::Create("out/runs/Nov24_17-00-00_host"));
//   ABSL_RETURN_IF_ERROR(writer->AddScalars(10, {{"train/loss", 2.5}, {"train/epoch", 0.1}}));
//   ABSL_RETURN_IF_ERROR(writer->Close());
//
// On disk: a file events.out.tfevents.SECONDS.HOST.PID.N of records. A record is the payload's
// length (8 bytes, little endian), the masked CRC-32C of these 8 bytes (4), the payload, its masked
// CRC-32C (4); masked is rotate-right by 15, plus 0xa282ead8. The payload is a tensorflow.Event
// message; the first one holds the version "brain.Event:2". Every call is one write, so that a
// reader, or a crash, never sees half of one that a later call has followed.
//
// Not synchronised: one thread at a time. Write on rank 0 only.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lathe {

class TensorBoardWriter {
 public:
  // Makes `directory`, with its parents, if it is not there, and a new event file in it.
  // Errors: PermissionDenied or another code by errno, naming the path.
  static absl::StatusOr<std::unique_ptr<TensorBoardWriter>> Create(const std::string& directory);

  ~TensorBoardWriter();
  TensorBoardWriter(const TensorBoardWriter&) = delete;
  TensorBoardWriter& operator=(const TensorBoardWriter&) = delete;

  // Points of scalar curves at `step`, tag and value each. TensorBoard stores floats.
  // Errors: as the operating system says, naming the file (ResourceExhausted: the disk is full).
  absl::Status AddScalars(int64_t step, const std::vector<std::pair<std::string, double>>& scalars);

  // A text shown on TensorBoard's Text page (Hugging Face puts the arguments there, as "args").
  absl::Status AddText(int64_t step, std::string_view tag, std::string_view text);

  // Says that what earlier files in the directory hold at `step` and beyond was undone by resuming:
  // TensorBoard then shows the new curve alone from there on.
  absl::Status AddRestart(int64_t step);

  // Brings everything to the disk and ends the file. Nothing may be added afterwards.
  absl::Status Close();

  const std::string& path() const { return path_; }

 private:
  TensorBoardWriter(int file_descriptor, std::string path);
  absl::Status WriteRecord(std::string_view payload);

  int file_descriptor_;
  std::string path_;
};

// The tag under which Hugging Face shows a log key: "train/loss" for "loss", "eval/loss" for
// "eval_loss", "test/loss" for "test_loss".
std::string TensorBoardTag(std::string_view log_key);

// Hugging Face's name for a run that starts now: "Nov24_17-00-00_host".
std::string TensorBoardRunName();

namespace tensorboard_internal {

// `payload` as one record of the format above.
std::string FrameRecord(std::string_view payload);

}  // namespace tensorboard_internal
}  // namespace lathe

#endif  // LATHE_TRAINER_TENSORBOARD_WRITER_H_
