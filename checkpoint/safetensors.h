#ifndef LATHE_CHECKPOINT_SAFETENSORS_H_
#define LATHE_CHECKPOINT_SAFETENSORS_H_

// One safetensors file, for reading.
//
//   ABSL_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open("model.safetensors"));
//   for (const auto& [name, tensor] : file.tensors()) ... tensor.dtype, tensor.shape
//   ABSL_ASSIGN_OR_RETURN(at::Tensor bias, file.Load("model.norm.weight"));
//   // Rows 4 to 8 of a [16, 64] matrix, bf16 in the file, into fp32 memory:
//   ABSL_RETURN_IF_ERROR(file.Read("lm_head.weight", {{4, 0}, {4, 64}}, destination));
//
// A file is hostile input: Open checks the whole header before anything is allocated or read from
// it, in less than 1 GB and a few seconds whatever the file holds. Read and Load use pread, so a
// file that shrinks while it is open gives a Status. View maps the file instead; read its warning.
//
// Thread rule: const calls may be made from any number of threads.

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "ATen/core/Tensor.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lathe/base/box.h"
#include "lathe/checkpoint/posix_file.h"
#include "lathe/checkpoint/safetensors_header.h"

namespace lathe {

class SafetensorsFile {
 public:
  // Opens the file and checks its header.
  // Errors: NotFound; InvalidArgument as "PATH: what is wrong", naming the tensor (see
  // ParseSafetensorsHeader), for a file that is no safetensors file or is cut off.
  static absl::StatusOr<SafetensorsFile> Open(const std::string& path);

  const std::string& path() const { return file_.path(); }

  // Sorted by name; the offsets are from the start of the file.
  const SafetensorsTensors& tensors() const { return header_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }

  // Copies box `box` of a tensor into `destination`: shape `box.length`, any strides, dtype and
  // device. Only the box's part of the file is read (and gaps of up to 4 KiB in it).
  // Errors: NotFound for an unknown name; InvalidArgument when the box is not inside the tensor,
  // the destination has another shape, or its dtype cannot hold the kind (float into integer);
  // DataLoss when the file was truncated since Open. The destination's content is then undefined.
  absl::Status Read(std::string_view name, const Box& box, const at::Tensor& destination) const;

  // The whole tensor in its own memory, in the file's dtype, on the CPU.
  // Errors: as Read.
  absl::StatusOr<at::Tensor> Load(std::string_view name) const;

  // The whole tensor as a private mapping of the file: no copy, pages are read when they are
  // touched and shared by all processes that view the file; writing to the tensor changes a private
  // copy, never the file. For frozen weights. The mapping lives as long as the tensor. Where a
  // mapping cannot serve (misaligned, BOOL, empty) this is Load.
  // Warning: when another process truncates the file afterwards, touching the lost pages raises
  // SIGBUS; nothing in a library can prevent that. Use Load for files that may change.
  absl::StatusOr<at::Tensor> View(std::string_view name) const;

 private:
  SafetensorsFile(PosixFile file, SafetensorsHeader header);
  absl::StatusOr<const SafetensorsTensor*> Find(std::string_view name) const;

  PosixFile file_;
  SafetensorsHeader header_;
};

}  // namespace lathe

#endif  // LATHE_CHECKPOINT_SAFETENSORS_H_
