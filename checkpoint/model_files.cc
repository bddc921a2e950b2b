#include "lathe/checkpoint/model_files.h"

#include <set>
#include <utility>

#include "absl/status/status_macros.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "lathe/checkpoint/deepspeed_checkpoint.h"
#include "lathe/checkpoint/json_limits.h"
#include "lathe/checkpoint/posix_file.h"

namespace lathe {
namespace {

// As for a safetensors header.
constexpr uint64_t kMaxIndexBytes = 100'000'000;

// {"metadata": {anything flat}, "weight_map": {tensor: shard}}.
class IndexHandler : public JsonEvents {
 public:
  std::map<std::string, std::string, std::less<>> weight_map;
  bool weight_map_seen = false;

  bool start_object(std::size_t) override {
    if (++depth_ == 1) return true;
    if (depth_ == 2 && section_ == "weight_map") {
      if (std::exchange(weight_map_seen, true)) return Refuse("it has two weight_maps");
      return true;
    }
    return InForeignSection();
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool start_array(std::size_t) override {
    if (depth_ == 0) return InForeignSection();
    ++depth_;
    return InForeignSection();
  }
  bool end_array() override {
    --depth_;
    return true;
  }

  bool key(string_t& name) override {
    if (depth_ == 1) section_ = std::move(name);
    if (depth_ != 2 || section_ != "weight_map") return true;
    tensor_ = std::move(name);
    if (weight_map.contains(tensor_)) {
      return Refuse(absl::StrCat("tensor '", Printable(tensor_), "' appears twice in weight_map"));
    }
    return true;
  }

  bool string(string_t& value) override {
    if (section_ != "weight_map") return true;
    if (depth_ != 2) return InForeignSection();
    if (!IsPlainFileName(value) || !absl::EndsWith(value, ".safetensors")) {
      return Refuse(absl::StrCat("tensor '", Printable(tensor_), "' lies in '", Printable(value),
                                 "', expected the name of a .safetensors file in the same folder"));
    }
    weight_map.emplace(std::move(tensor_), std::move(value));
    return true;
  }

  bool null() override { return InForeignSection(); }
  bool boolean(bool) override { return InForeignSection(); }
  bool number_integer(number_integer_t) override { return InForeignSection(); }
  bool number_unsigned(number_unsigned_t) override { return InForeignSection(); }
  bool number_float(number_float_t, const string_t&) override { return InForeignSection(); }

 private:
  // Sections other than weight_map are not read. Values of any kind pass there.
  bool InForeignSection() {
    if (depth_ > 0 && section_ != "weight_map" && depth_ <= 16) return true;
    return Refuse(section_ == "weight_map" ? "weight_map is not an object of file names"
                                           : "it is not an object with a weight_map");
  }

  int depth_ = 0;
  std::string section_;
  std::string tensor_;
};

// What someone has who has no safetensors.
bool IsPickledWeights(std::string_view name) {
  return absl::EndsWith(name, ".bin") || absl::EndsWith(name, ".bin.index.json") ||
         absl::EndsWith(name, ".pt") || absl::EndsWith(name, ".pth") ||
         absl::EndsWith(name, ".ckpt");
}

absl::Status NoWeights(const std::string& directory, std::string_view stem) {
  ABSL_RETURN_IF_ERROR(RefuseDeepSpeedCheckpoint(directory));
  ABSL_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(directory));
  for (const std::string& name : names) {
    if (name == "training_args.bin" || !IsPickledWeights(name)) continue;
    return absl::NotFoundError(absl::StrCat(
        directory, " has only pickled weights (", Printable(name),
        "), which are never read since a pickle can run code; convert them once, where you trust "
        "them: "
        "python3 -c \"from transformers import AutoModelForCausalLM as M; M.from_pretrained('",
        directory, "').save_pretrained('", directory, "')\""));
  }
  return absl::NotFoundError(absl::StrCat(directory, " has no weights: expected ", stem,
                                          ".safetensors or ", stem, ".safetensors.index.json"));
}

}  // namespace

absl::StatusOr<ModelFiles> ModelFiles::Open(const std::string& directory, std::string_view stem) {
  ModelFiles model;
  model.directory_ = directory;
  model.path_ = JoinPath(directory, absl::StrCat(stem, ".safetensors"));
  if (PathExists(model.path_)) {
    ABSL_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(model.path_));
    model.files_.push_back(std::move(file));
    ABSL_RETURN_IF_ERROR(model.AddTensors(0, nullptr));
    return model;
  }
  absl::StrAppend(&model.path_, ".index.json");
  if (!PathExists(model.path_)) return NoWeights(directory, stem);
  ABSL_ASSIGN_OR_RETURN(const std::string json, ReadSmallFile(model.path_, kMaxIndexBytes));
  IndexHandler index;
  absl::Status parsed = ParseJson(json, index);
  if (parsed.ok() && !index.weight_map_seen) {
    parsed = absl::InvalidArgumentError("it has no weight_map");
  }
  if (!parsed.ok()) {
    return absl::Status(parsed.code(), absl::StrCat(model.path_, ": ", parsed.message()));
  }
  ABSL_RETURN_IF_ERROR(model.OpenShards(index.weight_map));
  return model;
}

absl::Status ModelFiles::OpenShards(const ShardOfTensor& shard_of_tensor) {
  std::set<std::string_view> shards;
  for (const auto& [tensor, shard] : shard_of_tensor) shards.insert(shard);
  files_.reserve(shards.size());
  for (const std::string_view shard : shards) {
    const std::string path = JoinPath(directory_, shard);
    if (!PathExists(path)) {
      return absl::NotFoundError(
          absl::StrCat(path_, ": the shard ", Printable(shard), " that it names is missing"));
    }
    ABSL_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(path));
    files_.push_back(std::move(file));
    ABSL_RETURN_IF_ERROR(AddTensors(static_cast<int>(files_.size()) - 1, &shard_of_tensor));
  }
  for (const auto& [tensor, shard] : shard_of_tensor) {
    if (tensors_.contains(tensor)) continue;
    return absl::InvalidArgumentError(absl::StrCat(path_, ": tensor '", Printable(tensor),
                                                   "' should be in ", Printable(shard),
                                                   ", which does not have it"));
  }
  return absl::OkStatus();
}

absl::Status ModelFiles::AddTensors(int file, const ShardOfTensor* shard_of_tensor) {
  for (const auto& [name, tensor] : files_[file].tensors()) {
    const auto [other, is_new] = tensors_.try_emplace(name, Entry{.file = file, .tensor = &tensor});
    if (!is_new) {
      return absl::InvalidArgumentError(
          absl::StrCat(path_, ": tensor '", Printable(name), "' is in two shards, ",
                       files_[other->second.file].path(), " and ", files_[file].path()));
    }
    if (shard_of_tensor == nullptr) continue;
    const auto listed = shard_of_tensor->find(name);
    if (listed == shard_of_tensor->end() ||
        JoinPath(directory_, listed->second) != files_[file].path()) {
      return absl::InvalidArgumentError(absl::StrCat(
          path_, ": tensor '", Printable(name), "' is in ", files_[file].path(), ", but the index ",
          listed == shard_of_tensor->end() ? "does not name it"
                                           : absl::StrCat("says ", Printable(listed->second))));
    }
  }
  return absl::OkStatus();
}

const SafetensorsTensor* ModelFiles::Find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : found->second.tensor;
}

absl::StatusOr<const SafetensorsFile*> ModelFiles::FileOf(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    return absl::NotFoundError(absl::StrCat(path_, ": there is no tensor '", Printable(name), "'"));
  }
  return &files_[found->second.file];
}

absl::Status ModelFiles::Read(std::string_view name, const Box& box,
                              const at::Tensor& destination) const {
  ABSL_ASSIGN_OR_RETURN(const SafetensorsFile* file, FileOf(name));
  return file->Read(name, box, destination);
}

absl::StatusOr<at::Tensor> ModelFiles::Load(std::string_view name) const {
  ABSL_ASSIGN_OR_RETURN(const SafetensorsFile* file, FileOf(name));
  return file->Load(name);
}

absl::StatusOr<at::Tensor> ModelFiles::View(std::string_view name) const {
  ABSL_ASSIGN_OR_RETURN(const SafetensorsFile* file, FileOf(name));
  return file->View(name);
}

}  // namespace lathe
