#include "lathe/peft/lora/lora_merge.h"

#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "ATen/ops/mm.h"
#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "lathe/layers/precision.h"
#include "lathe/peft/lora/lora_scale.h"

namespace lathe {
namespace {

std::string Shape(const at::Tensor& tensor) {
  return absl::StrCat("[", absl::StrJoin(tensor.sizes(), ", "), "]");
}

class Merge {
 public:
  Merge(const ModelFiles& base, const ModelFiles& adapter, LoraScale scale)
      : base_(base), adapter_(adapter), scale_(std::move(scale)) {
    for (const auto& [name, entry] : adapter.tensors()) unused_.emplace(name);
  }

  absl::StatusOr<MergedModel> Run() {
    MergedModel merged;
    for (const auto& [name, entry] : base_.tensors()) {
      ABSL_ASSIGN_OR_RETURN(at::Tensor tensor, Merged(std::string(name), &merged));
      merged.tensors.push_back({.name = std::string(name),
                                .full_shape = entry.tensor->shape,
                                .file_dtype = entry.tensor->dtype,
                                .pieces = {{Box::Whole(entry.tensor->shape), std::move(tensor)}}});
    }
    if (unused_.empty()) return merged;
    return absl::InvalidArgumentError(absl::StrCat(
        adapter_.path(), ": ", *unused_.begin(),
        unused_.size() > 1 ? absl::StrCat(" and ", unused_.size() - 1, " more have") : " has",
        " no place in ", base_.path(), ": is it the adapter of another model?"));
  }

 private:
  absl::StatusOr<at::Tensor> Merged(const std::string& name, MergedModel* merged) {
    const std::string key = "base_model.model." + name;
    for (const std::string& whole :
         {key, absl::StrReplaceAll(key, {{".bias", ".base_layer.bias"}})}) {
      if (adapter_.Find(whole) == nullptr) continue;
      ++merged->num_replaced;
      return Replaced(name, whole);
    }
    std::string_view module = name;
    if (absl::ConsumeSuffix(&module, ".weight")) {
      const std::string a = absl::StrCat("base_model.model.", module, ".lora_A.weight");
      const std::string b = absl::StrCat("base_model.model.", module, ".lora_B.weight");
      if (adapter_.Find(a) != nullptr && adapter_.Find(b) != nullptr) {
        ++merged->num_merged;
        return Sum(name, module, a, b);
      }
    }
    return base_.View(name);
  }

  absl::StatusOr<at::Tensor> Replaced(const std::string& name, const std::string& key) {
    unused_.erase(key);
    ABSL_ASSIGN_OR_RETURN(const at::Tensor old, base_.View(name));
    ABSL_ASSIGN_OR_RETURN(const at::Tensor tensor, adapter_.Load(key));
    if (tensor.sizes() != old.sizes()) {
      return Misfit(key, tensor, absl::StrCat(Shape(old), ", the shape of ", name));
    }
    return Finite(tensor.to(old.scalar_type()), key);
  }

  absl::StatusOr<at::Tensor> Sum(const std::string& name, std::string_view module,
                                 const std::string& a_key, const std::string& b_key) {
    unused_.erase(a_key);
    unused_.erase(b_key);
    ABSL_ASSIGN_OR_RETURN(const at::Tensor weight, base_.View(name));
    ABSL_ASSIGN_OR_RETURN(const at::Tensor a, adapter_.Load(a_key));
    ABSL_ASSIGN_OR_RETURN(const at::Tensor b, adapter_.Load(b_key));
    const int64_t r = scale_.Rank(module);
    if (weight.dim() != 2 || a.dim() != 2 || a.size(0) != r || a.size(1) != weight.size(1)) {
      return Misfit(a_key, a, absl::StrCat("r = ", r, " rows for ", name, " ", Shape(weight)));
    }
    if (b.dim() != 2 || b.size(0) != weight.size(0) || b.size(1) != r) {
      return Misfit(b_key, b, absl::StrCat("r = ", r, " columns for ", name, " ", Shape(weight)));
    }
    const at::ScalarType type = UpcastType(weight.scalar_type());
    at::Tensor sum = at::mm(b.to(type), a.to(type)).mul_(scale_.Scaling(module)).add_(weight);
    return Finite(sum.to(weight.scalar_type()), name);
  }

  absl::Status Misfit(const std::string& key, const at::Tensor& tensor,
                      const std::string& expected) const {
    return absl::InvalidArgumentError(
        absl::StrCat(adapter_.path(), ": ", key, " is ", Shape(tensor), ", expected ", expected));
  }

  absl::StatusOr<at::Tensor> Finite(at::Tensor tensor, const std::string& name) const {
    if (tensor.isfinite().all().item().toBool()) return tensor;
    return absl::InvalidArgumentError(
        absl::StrCat(adapter_.path(), ": merged, ", name,
                     " has values that are not finite; the adapter is broken"));
  }

  const ModelFiles& base_;
  const ModelFiles& adapter_;
  const LoraScale scale_;
  std::set<std::string> unused_;  // of the adapter's tensors
};

}  // namespace

absl::StatusOr<MergedModel> MergeLora(const ModelFiles& base, const ModelFiles& adapter,
                                      const LoraConfig& config) {
  ABSL_ASSIGN_OR_RETURN(LoraScale scale, LoraScale::Create(config));
  return Merge(base, adapter, std::move(scale)).Run();
}

}  // namespace lathe
