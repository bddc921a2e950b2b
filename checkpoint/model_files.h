#ifndef LATHE_CHECKPOINT_MODEL_FILES_H_
#define LATHE_CHECKPOINT_MODEL_FILES_H_

// The tensors of a folder as one set, whether they lie in NAME.safetensors or in shards listed by
// NAME.safetensors.index.json, as Hugging Face writes them.
//
//   ABSL_ASSIGN_OR_RETURN(ModelFiles model, ModelFiles::Open("Qwen2-0.5B"));
//   ABSL_ASSIGN_OR_RETURN(at::Tensor norm, model.Load("model.norm.weight"));
//   ABSL_ASSIGN_OR_RETURN(ModelFiles states, ModelFiles::Open("out/checkpoint-100", "optimizer"));
//
// Thread rule: const calls may be made from any number of threads.

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lathe/base/box.h"
#include "lathe/checkpoint/safetensors.h"

namespace lathe {

class ModelFiles {
 public:
  // Opens `stem`.safetensors in `directory`, or else the shards of `stem`.safetensors.index.json.
  // Errors: NotFound when there is neither, telling how to convert where only pickled weights are
  // there; InvalidArgument for a malformed index, a shard name that is not a plain file name, a
  // shard that is missing, a tensor that the index names but its shard has not or the reverse, a
  // tensor in two shards, and for what SafetensorsFile::Open refuses.
  static absl::StatusOr<ModelFiles> Open(const std::string& directory,
                                         std::string_view stem = "model");

  const std::string& directory() const { return directory_; }

  // The file that messages name: the single file or the index.
  const std::string& path() const { return path_; }

  struct Entry {
    int file = 0;  // index into files()
    const SafetensorsTensor* tensor = nullptr;
  };
  // All tensors, sorted by name.
  const std::map<std::string_view, Entry>& tensors() const { return tensors_; }
  const std::vector<SafetensorsFile>& files() const { return files_; }

  // nullptr for an unknown name.
  const SafetensorsTensor* Find(std::string_view name) const;

  // As the functions of SafetensorsFile, whichever file has the tensor.
  absl::Status Read(std::string_view name, const Box& box, const at::Tensor& destination) const;
  absl::StatusOr<at::Tensor> Load(std::string_view name) const;
  absl::StatusOr<at::Tensor> View(std::string_view name) const;

 private:
  using ShardOfTensor = std::map<std::string, std::string, std::less<>>;

  ModelFiles() = default;
  absl::Status OpenShards(const ShardOfTensor& shard_of_tensor);
  absl::Status AddTensors(int file, const ShardOfTensor* shard_of_tensor);
  absl::StatusOr<const SafetensorsFile*> FileOf(std::string_view name) const;

  std::string directory_;
  std::string path_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string_view, Entry>
      tensors_;  // views into files_' own maps, whose nodes do not move
};

}  // namespace lathe

#endif  // LATHE_CHECKPOINT_MODEL_FILES_H_
