#include "lathe/checkpoint/safetensors.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "ATen/ops/empty.h"
#include "ATen/ops/from_blob.h"
#include "absl/status/status_macros.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "lathe/checkpoint/box_transfer.h"

namespace lathe {
namespace {

constexpr uint64_t kLengthBytes = 8;

// The header's JSON text and the size of the data behind it.
struct RawHeader {
  std::string json;
  uint64_t data_bytes;
};

absl::StatusOr<RawHeader> ReadHeader(const PosixFile& file) {
  ABSL_ASSIGN_OR_RETURN(const uint64_t file_bytes, file.Size());
  if (file_bytes < kLengthBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the file has ", file_bytes, " bytes, a safetensors file has at least 8"));
  }
  char length_bytes[kLengthBytes];
  ABSL_RETURN_IF_ERROR(file.ReadAt(0, absl::MakeSpan(length_bytes)));
  uint64_t header_bytes;
  std::memcpy(&header_bytes, length_bytes, kLengthBytes);
  // In this order nothing can wrap: file_bytes - 8 is what is there.
  if (header_bytes > file_bytes - kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the header is said to have ", header_bytes,
                                                   " bytes, but ", file_bytes - kLengthBytes,
                                                   " follow: no safetensors file, or cut off"));
  }
  if (header_bytes > kMaxSafetensorsHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the header is said to have ", header_bytes,
                                                   " bytes, at most ", kMaxSafetensorsHeaderBytes,
                                                   " are allowed"));
  }
  RawHeader header{.json = std::string(header_bytes, '\0'),
                   .data_bytes = file_bytes - kLengthBytes - header_bytes};
  ABSL_RETURN_IF_ERROR(file.ReadAt(kLengthBytes, absl::MakeSpan(header.json)));
  return header;
}

absl::StatusOr<SafetensorsHeader> ParseHeader(const PosixFile& file) {
  ABSL_ASSIGN_OR_RETURN(const RawHeader raw, ReadHeader(file));
  // Writers pad the header with spaces.
  std::string_view json = raw.json;
  while (!json.empty() && json.back() == ' ') json.remove_suffix(1);
  ABSL_ASSIGN_OR_RETURN(SafetensorsHeader header, ParseSafetensorsHeader(json, raw.data_bytes));
  for (auto& [name, tensor] : header.tensors) tensor.offset += kLengthBytes + raw.json.size();
  return header;
}

StoredTensor Stored(const SafetensorsTensor& tensor) {
  return {.dtype = tensor.dtype, .shape = tensor.shape, .offset = tensor.offset};
}

// The same code with the file, and the tensor if there is one, in front.
absl::Status InFile(const absl::Status& status, std::string_view path, std::string_view name = "") {
  // Messages of the operating system name the path themselves.
  if (absl::StrContains(status.message(), path)) return status;
  return absl::Status(status.code(),
                      absl::StrCat(path, ": ", name.empty() ? "" : "tensor '", Printable(name),
                                   name.empty() ? "" : "': ", status.message()));
}

}  // namespace

SafetensorsFile::SafetensorsFile(PosixFile file, SafetensorsHeader header)
    : file_(std::move(file)), header_(std::move(header)) {}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  ABSL_ASSIGN_OR_RETURN(PosixFile file, PosixFile::OpenForReading(path));
  absl::StatusOr<SafetensorsHeader> header = ParseHeader(file);
  if (!header.ok()) return InFile(header.status(), path);
  return SafetensorsFile(std::move(file), *std::move(header));
}

absl::StatusOr<const SafetensorsTensor*> SafetensorsFile::Find(std::string_view name) const {
  const auto found = header_.tensors.find(name);
  if (found == header_.tensors.end()) {
    return absl::NotFoundError(
        absl::StrCat(path(), ": there is no tensor '", Printable(name), "'"));
  }
  return &found->second;
}

absl::Status SafetensorsFile::Read(std::string_view name, const Box& box,
                                   const at::Tensor& destination) const {
  ABSL_ASSIGN_OR_RETURN(const SafetensorsTensor* tensor, Find(name));
  const absl::Status status = ReadBox(file_, Stored(*tensor), box, destination);
  return status.ok() ? status : InFile(status, path(), name);
}

absl::StatusOr<at::Tensor> SafetensorsFile::Load(std::string_view name) const {
  ABSL_ASSIGN_OR_RETURN(const SafetensorsTensor* tensor, Find(name));
  at::Tensor loaded = at::empty(tensor->shape, at::TensorOptions().dtype(tensor->dtype));
  ABSL_RETURN_IF_ERROR(Read(name, Box::Whole(tensor->shape), loaded));
  return loaded;
}

absl::StatusOr<at::Tensor> SafetensorsFile::View(std::string_view name) const {
  ABSL_ASSIGN_OR_RETURN(const SafetensorsTensor* tensor, Find(name));
  const bool aligned = tensor->offset % c10::elementSize(tensor->dtype) == 0;
  if (!aligned || tensor->num_bytes == 0 || tensor->dtype == at::ScalarType::Bool)
    return Load(name);
  ABSL_ASSIGN_OR_RETURN(const uint64_t file_bytes, file_.Size());
  if (tensor->offset + tensor->num_bytes > file_bytes) {
    return InFile(absl::DataLossError("the file was truncated since it was opened"), path(), name);
  }
  const uint64_t page_bytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t start = tensor->offset / page_bytes * page_bytes;
  const uint64_t length = tensor->offset + tensor->num_bytes - start;
  void* const mapping = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
                             file_.descriptor(), static_cast<off_t>(start));
  if (mapping == MAP_FAILED) return ErrnoError(errno, "map", path());
  return at::from_blob(
      static_cast<char*>(mapping) + (tensor->offset - start), tensor->shape,
      [mapping, length](void*) { munmap(mapping, length); },
      at::TensorOptions().dtype(tensor->dtype));
}

}  // namespace lathe
