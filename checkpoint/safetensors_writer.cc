#include "lathe/checkpoint/safetensors_writer.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "lathe/checkpoint/atomic_file.h"
#include "lathe/checkpoint/box_transfer.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

// A JSON string. Errors: InvalidArgument when it is not UTF-8.
absl::StatusOr<std::string> Quoted(const std::string& text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::type_error&) {  // the only way the library has to say so
    return absl::InvalidArgumentError(
        absl::StrCat("tensor name '", Printable(text), "' is not UTF-8"));
  }
}

absl::StatusOr<uint64_t> CheckedBytes(const TensorSpec& spec) {
  if (spec.name == "__metadata__" || !SafetensorsDtypeName(spec.dtype).has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a safetensors file cannot hold a tensor named '", Printable(spec.name),
                     "' of dtype ", c10::toString(spec.dtype)));
  }
  absl::StatusOr<int64_t> elements = CheckedVolume(spec.shape);
  int64_t bytes;
  if (elements.ok() && !__builtin_mul_overflow(
                           *elements, static_cast<int64_t>(c10::elementSize(spec.dtype)), &bytes)) {
    return static_cast<uint64_t>(bytes);
  }
  return absl::InvalidArgumentError(absl::StrCat("tensor '", Printable(spec.name),
                                                 "' has an impossible shape [",
                                                 absl::StrJoin(spec.shape, ", "), "]"));
}

// Runs of digits compare as numbers, so that layer 2 comes before layer 10.
bool NaturalLess(std::string_view a, std::string_view b) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  size_t i = 0;
  size_t j = 0;
  while (i < a.size() && j < b.size()) {
    if (!is_digit(a[i]) || !is_digit(b[j])) {
      if (a[i] != b[j]) return a[i] < b[j];
      ++i, ++j;
      continue;
    }
    const auto number = [&](std::string_view text, size_t& at) {
      const size_t start = at;
      while (at < text.size() && is_digit(text[at])) ++at;
      std::string_view digits = text.substr(start, at - start);
      digits.remove_prefix(std::min(digits.find_first_not_of('0'), digits.size()));
      return digits;
    };
    const std::string_view x = number(a, i);
    const std::string_view y = number(b, j);
    if (x.size() != y.size()) return x.size() < y.size();
    if (x != y) return x < y;
  }
  if (i < a.size() || j < b.size()) return j < b.size();
  return a < b;  // "01" and "1"
}

}  // namespace

absl::StatusOr<SafetensorsLayout> SafetensorsLayout::Create(absl::Span<const TensorSpec> specs) {
  std::vector<const TensorSpec*> order;
  order.reserve(specs.size());
  for (const TensorSpec& spec : specs) order.push_back(&spec);
  // Large dtypes first keeps every tensor aligned to its own size without padding between them.
  std::sort(order.begin(), order.end(), [](const TensorSpec* a, const TensorSpec* b) {
    const int a_order = SafetensorsDtypeOrder(a->dtype);
    const int b_order = SafetensorsDtypeOrder(b->dtype);
    return a_order != b_order ? a_order > b_order : a->name < b->name;
  });

  SafetensorsLayout layout;
  uint64_t position = 0;
  std::string json = R"({"__metadata__":{"format":"pt"})";
  for (const TensorSpec* spec : order) {
    ABSL_ASSIGN_OR_RETURN(const uint64_t bytes, CheckedBytes(*spec));
    ABSL_ASSIGN_OR_RETURN(const std::string name, Quoted(spec->name));
    if (bytes > static_cast<uint64_t>(INT64_MAX) - position) {
      return absl::InvalidArgumentError("the tensors together are larger than any file");
    }
    absl::StrAppend(&json, ",", name, R"(:{"dtype":")", *SafetensorsDtypeName(spec->dtype),
                    R"(","shape":[)", absl::StrJoin(spec->shape, ","), R"(],"data_offsets":[)",
                    position, ",", position + bytes, "]}");
    const auto [tensor, is_new] = layout.tensors_.try_emplace(
        spec->name, SafetensorsTensor{spec->dtype, spec->shape, position, bytes});
    if (!is_new) {
      return absl::InvalidArgumentError(
          absl::StrCat("two tensors are named '", Printable(spec->name), "'"));
    }
    position += bytes;
  }
  json += "}";
  json.resize((json.size() + 7) / 8 * 8, ' ');
  if (json.size() > kMaxSafetensorsHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the header of ", specs.size(), " tensors has ",
                                                   json.size(), " bytes, at most ",
                                                   kMaxSafetensorsHeaderBytes, " are allowed"));
  }
  const uint64_t json_bytes = json.size();
  layout.header_.resize(sizeof json_bytes);
  std::memcpy(layout.header_.data(), &json_bytes,
              sizeof json_bytes);  // little-endian, see box_transfer
  layout.header_ += json;
  for (auto& [name, tensor] : layout.tensors_) tensor.offset += layout.header_.size();
  layout.file_bytes_ = layout.header_.size() + position;
  return layout;
}

absl::Status SafetensorsLayout::WriteBox(const PosixFile& file, std::string_view name,
                                         const Box& box, const at::Tensor& tensor,
                                         PiecewiseCrc32c& checksum) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    return absl::NotFoundError(
        absl::StrCat(file.path(), ": there is no tensor '", Printable(name), "' in the layout"));
  }
  const SafetensorsTensor& place = found->second;
  const StoredTensor stored{.dtype = place.dtype, .shape = place.shape, .offset = place.offset};
  const absl::Status status = lathe::WriteBox(file, stored, box, tensor, checksum);
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat("tensor '", Printable(name), "': ", status.message()));
}

absl::StatusOr<ShardedLayout> PlanShards(absl::Span<const TensorSpec> specs, std::string_view stem,
                                         uint64_t max_shard_bytes) {
  std::vector<TensorSpec> order(specs.begin(), specs.end());
  std::sort(order.begin(), order.end(),
            [](const TensorSpec& a, const TensorSpec& b) { return NaturalLess(a.name, b.name); });
  std::vector<std::vector<TensorSpec>> shards;
  std::vector<TensorSpec> current;
  uint64_t current_bytes = 0;
  uint64_t total_bytes = 0;
  int64_t total_elements = 0;
  for (TensorSpec& spec : order) {
    ABSL_ASSIGN_OR_RETURN(const uint64_t bytes, CheckedBytes(spec));
    total_bytes += bytes;
    total_elements += static_cast<int64_t>(bytes / c10::elementSize(spec.dtype));
    if (bytes > max_shard_bytes) {
      shards.push_back({std::move(spec)});
      continue;
    }
    if (current_bytes + bytes > max_shard_bytes) {
      shards.push_back(std::exchange(current, {}));
      current_bytes = 0;
    }
    current.push_back(std::move(spec));
    current_bytes += bytes;
  }
  if (!current.empty() || shards.empty()) shards.push_back(std::move(current));

  ShardedLayout plan;
  nlohmann::json weight_map = nlohmann::json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shards.size() == 1 ? absl::StrCat(stem, ".safetensors")
                                                : absl::StrFormat("%s-%05d-of-%05d.safetensors",
                                                                  stem, i + 1, shards.size());
    ABSL_ASSIGN_OR_RETURN(SafetensorsLayout layout, SafetensorsLayout::Create(shards[i]));
    for (const TensorSpec& spec : shards[i]) {
      if (!plan.file_of_tensor.emplace(spec.name, i).second) {
        return absl::InvalidArgumentError(
            absl::StrCat("two tensors are named '", Printable(spec.name), "'"));
      }
      weight_map[spec.name] = name;
    }
    plan.files.push_back({name, std::move(layout)});
  }
  if (shards.size() > 1) {
    plan.index_name = absl::StrCat(stem, ".safetensors.index.json");
    const nlohmann::json index = {
        {"metadata", {{"total_parameters", total_elements}, {"total_size", total_bytes}}},
        {"weight_map", std::move(weight_map)}};
    plan.index_json = index.dump(2, ' ', /*ensure_ascii=*/true) + "\n";
  }
  return plan;
}

absl::Status WriteSafetensorsFile(const std::string& path,
                                  const std::map<std::string, at::Tensor, std::less<>>& tensors) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : tensors) {
    specs.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
  }
  ABSL_ASSIGN_OR_RETURN(const SafetensorsLayout layout, SafetensorsLayout::Create(specs));
  ABSL_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  ABSL_RETURN_IF_ERROR(file->Allocate(layout.file_bytes()));
  ABSL_RETURN_IF_ERROR(file->WriteAt(0, layout.header()));
  PiecewiseCrc32c unused(layout.file_bytes());
  for (const auto& [name, tensor] : tensors) {
    ABSL_RETURN_IF_ERROR(
        layout.WriteBox(*file, name, Box::Whole(tensor.sizes().vec()), tensor, unused));
  }
  return file.Commit();
}

}  // namespace lathe
