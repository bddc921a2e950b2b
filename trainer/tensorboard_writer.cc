#include "lathe/trainer/tensorboard_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <ctime>
#include <filesystem>
#include <system_error>

#include "absl/crc/crc32c.h"
#include "absl/log/absl_check.h"
#include "absl/status/status_macros.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tensorboardX/proto/event.pb.h"

namespace lathe {
namespace {

uint32_t MaskedCrc(std::string_view bytes) {
  const uint32_t crc = static_cast<uint32_t>(absl::ComputeCrc32c(bytes));
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

template <typename Integer>
void AppendLittleEndian(Integer value, std::string& out) {
  for (size_t i = 0; i < sizeof(value); ++i) out += static_cast<char>(value >> (8 * i));
}

std::string HostName() {
  char name[256] = "";
  if (gethostname(name, sizeof(name) - 1) != 0 || name[0] == '\0') return "localhost";
  return name;
}

tensorboardX::Event NewEvent(int64_t step) {
  tensorboardX::Event event;
  event.set_wall_time(absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()));
  event.set_step(step);
  return event;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TensorBoardWriter>> TensorBoardWriter::Create(
    const std::string& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return absl::ErrnoToStatus(error.value(), absl::StrCat("cannot make the folder ", directory));
  }
  // Two writers of one process in one second need names of their own.
  static std::atomic<int> count{0};
  const std::string path =
      absl::StrFormat("%s/events.out.tfevents.%010d.%s.%d.%d", directory,
                      absl::ToUnixSeconds(absl::Now()), HostName(), getpid(), count++);
  const int file_descriptor =
      open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
  if (file_descriptor < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", path));
  std::unique_ptr<TensorBoardWriter> writer(new TensorBoardWriter(file_descriptor, path));
  tensorboardX::Event event = NewEvent(0);
  event.set_file_version("brain.Event:2");
  ABSL_RETURN_IF_ERROR(writer->WriteRecord(event.SerializeAsString()));
  return writer;
}

TensorBoardWriter::TensorBoardWriter(int file_descriptor, std::string path)
    : file_descriptor_(file_descriptor), path_(std::move(path)) {}

TensorBoardWriter::~TensorBoardWriter() {
  if (file_descriptor_ >= 0) close(file_descriptor_);
}

absl::Status TensorBoardWriter::AddScalars(
    int64_t step, const std::vector<std::pair<std::string, double>>& scalars) {
  tensorboardX::Event event = NewEvent(step);
  for (const auto& [tag, value] : scalars) {
    tensorboardX::Summary::Value* point = event.mutable_summary()->add_value();
    point->set_tag(tag);
    point->set_simple_value(static_cast<float>(value));
  }
  return WriteRecord(event.SerializeAsString());
}

absl::Status TensorBoardWriter::AddText(int64_t step, std::string_view tag, std::string_view text) {
  tensorboardX::Event event = NewEvent(step);
  tensorboardX::Summary::Value* value = event.mutable_summary()->add_value();
  // The suffix and the plugin's name are how TensorBoard's text plugin recognises its data.
  value->set_tag(absl::StrCat(tag, "/text_summary"));
  value->mutable_metadata()->mutable_plugin_data()->set_plugin_name("text");
  tensorboardX::TensorProto* tensor = value->mutable_tensor();
  tensor->set_dtype(tensorboardX::DT_STRING);
  tensor->mutable_tensor_shape()->add_dim()->set_size(1);
  tensor->add_string_val(std::string(text));
  return WriteRecord(event.SerializeAsString());
}

absl::Status TensorBoardWriter::AddRestart(int64_t step) {
  tensorboardX::Event event = NewEvent(step);
  event.mutable_session_log()->set_status(tensorboardX::SessionLog::START);
  return WriteRecord(event.SerializeAsString());
}

absl::Status TensorBoardWriter::Close() {
  ABSL_CHECK_GE(file_descriptor_, 0) << "closed before";
  // A file system that cannot sync (a pipe, some FUSE mounts) says EINVAL: nothing is lost by that.
  const bool synced = fsync(file_descriptor_) == 0 || errno == EINVAL;
  const int sync_error = errno;
  const bool closed = close(file_descriptor_) == 0;
  const int close_error = errno;
  file_descriptor_ = -1;
  if (!synced) return absl::ErrnoToStatus(sync_error, absl::StrCat("cannot write ", path_));
  if (!closed) return absl::ErrnoToStatus(close_error, absl::StrCat("cannot write ", path_));
  return absl::OkStatus();
}

absl::Status TensorBoardWriter::WriteRecord(std::string_view payload) {
  ABSL_CHECK_GE(file_descriptor_, 0) << "added to a closed writer";
  const std::string record = tensorboard_internal::FrameRecord(payload);
  std::string_view rest = record;
  while (!rest.empty()) {
    const ssize_t written = write(file_descriptor_, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path_));
    rest.remove_prefix(written);
  }
  return absl::OkStatus();
}

std::string TensorBoardTag(std::string_view log_key) {
  for (std::string_view kind : {"eval", "test"}) {
    if (absl::StartsWith(log_key, absl::StrCat(kind, "_"))) {
      return absl::StrCat(kind, "/", log_key.substr(kind.size() + 1));
    }
  }
  return absl::StrCat("train/", log_key);
}

std::string TensorBoardRunName() {
  const std::time_t now = std::time(nullptr);
  std::tm local;
  localtime_r(&now, &local);
  char date[32];
  std::strftime(date, sizeof(date), "%b%d_%H-%M-%S", &local);
  return absl::StrCat(date, "_", HostName());
}

namespace tensorboard_internal {

std::string FrameRecord(std::string_view payload) {
  std::string record;
  AppendLittleEndian(static_cast<uint64_t>(payload.size()), record);
  AppendLittleEndian(MaskedCrc(record), record);
  record += payload;
  AppendLittleEndian(MaskedCrc(payload), record);
  return record;
}

}  // namespace tensorboard_internal
}  // namespace lathe
