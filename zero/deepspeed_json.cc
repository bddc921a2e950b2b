#include "lathe/zero/deepspeed_json.h"

#include <algorithm>
#include <map>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "lathe/base/config/field_value.h"
#include "lathe/base/read_file.h"
#include "lathe/base/strict_json.h"
#include "lathe/zero/deepspeed_check.h"
#include "lathe/zero/deepspeed_keys.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMostBytes = 1 << 20;  // larger than any configuration

// The schedulers that there are, with their parameters.
const std::map<std::string, std::vector<std::string>>& SchedulerParameters() {
  static const auto* const parameters = new std::map<std::string, std::vector<std::string>>{
      {"WarmupLR", {"warmup_min_lr", "warmup_max_lr", "warmup_num_steps", "warmup_type"}},
      {"WarmupDecayLR",
       {"total_num_steps", "warmup_min_lr", "warmup_max_lr", "warmup_num_steps", "warmup_type"}},
      {"WarmupCosineLR",
       {"total_num_steps", "warmup_min_ratio", "warmup_num_steps", "cos_min_ratio",
        "warmup_type"}}};
  return *parameters;
}

// The type of an optimizer or scheduler says which parameters it has, and is checked before them.
// Optimizers are known in any case, schedulers by their exact name, as in DeepSpeed.
absl::Status CheckTypes(const Json& root, std::string_view source) {
  const auto type_of = [&](const char* block) -> std::optional<std::string> {
    const auto found = root.find(block);
    if (found == root.end() || !found->is_object()) return std::nullopt;
    const auto type = found->find("type");
    if (type == found->end() || !type->is_string()) return std::nullopt;
    return type->get<std::string>();
  };
  const std::optional<std::string> optimizer = type_of("optimizer");
  const auto is = [&](std::string_view type) {
    return optimizer && absl::EqualsIgnoreCase(*optimizer, type);
  };
  if (is("Muon")) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": optimizer.type \"", *optimizer,
                     "\" is not implemented: it has two learning rates, muon_lr and adam_lr; leave "
                     "the block out "
                     "and give --optim muon, which has one"));
  }
  if (is("SGD")) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": optimizer.type \"", *optimizer,
                     "\" is not implemented; leave the block out and give --optim sgd"));
  }
  if (optimizer && !is("AdamW") && !is("Adam") && !is("Lion")) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": optimizer.type \"", *optimizer,
                                                   "\" is not implemented in this version; "
                                                   "use AdamW, Adam or Lion"));
  }
  const std::optional<std::string> scheduler = type_of("scheduler");
  if (scheduler && !SchedulerParameters().contains(*scheduler)) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": scheduler.type \"", *scheduler,
                     "\" is not implemented in this version; use WarmupLR, WarmupDecayLR or "
                     "WarmupCosineLR, or no scheduler and --lr_scheduler_type"));
  }
  return absl::OkStatus();
}

// Takes typed values out of what the walk has checked.
class Reader {
 public:
  explicit Reader(const DeepSpeedCheck& check) : check_(check) {}

  bool Has(std::string_view path) const { return check_.Find(path) != nullptr; }

  template <typename T>
  void Read(std::string_view path, DeepSpeedValue<T>* value) const {
    const Json* found = check_.Find(path);
    if (found == nullptr) return;
    if (IsAutoJson(*found)) {
      value->is_auto = true;
    } else {
      value->value = found->get<T>();
    }
  }

  // Words are compared in lower case.
  void ReadWord(std::string_view path, DeepSpeedValue<std::string>* value) const {
    Read(path, value);
    if (value->value) absl::AsciiStrToLower(&*value->value);
  }

 private:
  const DeepSpeedCheck& check_;
};

template <typename... Parts>
absl::Status Wrong(const DeepSpeedJson& json, const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(json.source, ": ", parts...));
}

absl::Status ReadBetas(const DeepSpeedCheck& check, DeepSpeedJson* json) {
  const Json* betas = check.Find("optimizer.params.betas");
  if (betas == nullptr) return absl::OkStatus();
  if (IsAutoJson(*betas)) {
    json->optimizer->betas.is_auto = true;
    return absl::OkStatus();
  }
  const auto fits = [](const Json& beta) {
    return beta.is_number() && beta.get<double>() >= 0 && beta.get<double>() < 1;
  };
  if (!betas->is_array() || betas->size() != 2 || !fits((*betas)[0]) || !fits((*betas)[1])) {
    return Wrong(*json, "optimizer.params.betas is ", ShownJson(*betas),
                 "; expected two numbers from 0 to below 1, or \"auto\"");
  }
  json->optimizer->betas.value = {(*betas)[0].get<double>(), (*betas)[1].get<double>()};
  return absl::OkStatus();
}

absl::Status ReadOptimizer(const DeepSpeedCheck& check, DeepSpeedJson* json) {
  const Reader reader(check);
  if (!reader.Has("optimizer")) return absl::OkStatus();
  DeepSpeedOptimizer& optimizer = json->optimizer.emplace();
  DeepSpeedValue<std::string> type;
  DeepSpeedValue<bool> adam_w_mode;
  reader.Read("optimizer.type", &type);
  reader.Read("optimizer.params.adam_w_mode", &adam_w_mode);
  if (!type.value) return Wrong(*json, "optimizer.type is missing; expected AdamW, Adam or Lion");
  optimizer.type = *type.value;
  if (absl::EqualsIgnoreCase(optimizer.type, "adam") && !adam_w_mode.value_or(true)) {
    optimizer.rule = DeepSpeedOptimizer::Rule::kAdam;
  }
  if (absl::EqualsIgnoreCase(optimizer.type, "lion")) {
    optimizer.rule = DeepSpeedOptimizer::Rule::kLion;
    for (const char* name : {"eps", "adam_w_mode"}) {
      const std::string path = absl::StrCat("optimizer.params.", name);
      if (reader.Has(path)) {
        return Wrong(*json, path, " is not a parameter of Lion, which has lr, betas, weight_decay");
      }
    }
  }
  reader.Read("optimizer.params.lr", &optimizer.lr);
  reader.Read("optimizer.params.eps", &optimizer.eps);
  reader.Read("optimizer.params.weight_decay", &optimizer.weight_decay);
  return ReadBetas(check, json);
}

absl::Status CheckSchedulerParameters(const DeepSpeedCheck& check, const DeepSpeedJson& json) {
  const std::string& type = json.scheduler->type;
  const std::vector<std::string>& known = SchedulerParameters().at(type);
  for (const std::string& name : DeepSpeedKeysIn("scheduler.params")) {
    const std::string path = absl::StrCat("scheduler.params.", name);
    const bool fits = std::find(known.begin(), known.end(), name) != known.end();
    if (check.Find(path) != nullptr && !fits) {
      return Wrong(json, path, " is not a parameter of ", type, ", which has ",
                   absl::StrJoin(known, ", "));
    }
  }
  if (known.front() == "total_num_steps" &&
      check.Find("scheduler.params.total_num_steps") == nullptr) {
    return Wrong(json, "scheduler.params.total_num_steps is missing; ", type,
                 " needs it, as a number or \"auto\"");
  }
  return absl::OkStatus();
}

absl::Status ReadScheduler(const DeepSpeedCheck& check, DeepSpeedJson* json) {
  const Reader reader(check);
  if (!reader.Has("scheduler")) return absl::OkStatus();
  DeepSpeedScheduler& scheduler = json->scheduler.emplace();
  DeepSpeedValue<std::string> type;
  reader.Read("scheduler.type", &type);
  if (!type.value) {
    return Wrong(*json,
                 "scheduler.type is missing; expected WarmupLR, WarmupDecayLR or WarmupCosineLR");
  }
  scheduler.type = *type.value;
  ABSL_RETURN_IF_ERROR(CheckSchedulerParameters(check, *json));
  reader.Read("scheduler.params.warmup_min_lr", &scheduler.warmup_min_lr);
  reader.Read("scheduler.params.warmup_max_lr", &scheduler.warmup_max_lr);
  reader.Read("scheduler.params.warmup_num_steps", &scheduler.warmup_num_steps);
  // DeepSpeed's shortest warmup.
  if (scheduler.warmup_num_steps.value == 0) scheduler.warmup_num_steps.value = 1;
  reader.Read("scheduler.params.total_num_steps", &scheduler.total_num_steps);
  reader.ReadWord("scheduler.params.warmup_type", &scheduler.warmup_type);
  reader.Read("scheduler.params.warmup_min_ratio", &scheduler.warmup_min_ratio);
  reader.Read("scheduler.params.cos_min_ratio", &scheduler.cos_min_ratio);
  return absl::OkStatus();
}

// One offload block, or its older form: a boolean beside it.
absl::Status ReadOffload(const DeepSpeedCheck& check, const std::string& name,
                         const std::string& old_name, DeepSpeedJson* json,
                         DeepSpeedOffload* offload) {
  const Reader reader(check);
  const std::string path = absl::StrCat("zero_optimization.", name);
  const std::string old_path = absl::StrCat("zero_optimization.", old_name);
  DeepSpeedValue<bool> old;
  reader.Read(old_path, &old);
  if (old.value && reader.Has(path)) {
    return Wrong(*json, old_path, " and ", path, " are one thing, given twice; keep ", name);
  }
  if (old.value_or(false)) offload->device.value = "cpu";
  reader.ReadWord(path + ".device", &offload->device);
  reader.Read(path + ".nvme_path", &offload->nvme_path);
  reader.Read(path + ".pin_memory", &offload->pin_memory);
  reader.Read(path + ".buffer_count", &offload->buffer_count);
  reader.Read(path + ".buffer_size", &offload->buffer_size);
  reader.Read(path + ".max_in_cpu", &offload->max_in_cpu);
  if (offload->device.value_or("none") == "nvme" && offload->nvme_path.value_or("").empty()) {
    return Wrong(*json, path, ".nvme_path is missing; device \"nvme\" needs a folder on the disk");
  }
  return absl::OkStatus();
}

absl::Status ReadZero(const DeepSpeedCheck& check, DeepSpeedJson* json) {
  const Reader reader(check);
  DeepSpeedZero& zero = json->zero_optimization;
  const auto read = [&](const char* name, auto* value) {
    reader.Read(absl::StrCat("zero_optimization.", name), value);
  };
  read("stage", &zero.stage);
  read("reduce_bucket_size", &zero.reduce_bucket_size);
  read("allgather_bucket_size", &zero.allgather_bucket_size);
  read("overlap_comm", &zero.overlap_comm);
  read("contiguous_gradients", &zero.contiguous_gradients);
  read("sub_group_size", &zero.sub_group_size);
  read("stage3_prefetch_bucket_size", &zero.stage3_prefetch_bucket_size);
  read("stage3_param_persistence_threshold", &zero.stage3_param_persistence_threshold);
  read("stage3_model_persistence_threshold", &zero.stage3_model_persistence_threshold);
  read("stage3_max_live_parameters", &zero.stage3_max_live_parameters);
  ABSL_RETURN_IF_ERROR(
      ReadOffload(check, "offload_optimizer", "cpu_offload", json, &zero.offload_optimizer));
  ABSL_RETURN_IF_ERROR(
      ReadOffload(check, "offload_param", "cpu_offload_param", json, &zero.offload_param));
  const int64_t stage = zero.stage.value_or(0);
  if (stage < 1 && zero.offload_optimizer.device.value_or("none") != "none") {
    return Wrong(*json,
                 "zero_optimization.offload_optimizer needs zero_optimization.stage 1, 2 or 3; "
                 "it is ",
                 stage);
  }
  if (stage < 3 && zero.offload_param.device.value_or("none") != "none") {
    return Wrong(*json, "zero_optimization.offload_param needs zero_optimization.stage 3; it is ",
                 stage);
  }
  return absl::OkStatus();
}

void ReadRest(const DeepSpeedCheck& check, DeepSpeedJson* json) {
  const Reader reader(check);
  reader.Read("train_batch_size", &json->train_batch_size);
  reader.Read("train_micro_batch_size_per_gpu", &json->train_micro_batch_size_per_gpu);
  reader.Read("gradient_accumulation_steps", &json->gradient_accumulation_steps);
  reader.Read("gradient_clipping", &json->gradient_clipping);
  reader.Read("fp16.enabled", &json->fp16.enabled);
  reader.Read("fp16.loss_scale", &json->fp16.loss_scale);
  reader.Read("fp16.initial_scale_power", &json->fp16.initial_scale_power);
  reader.Read("fp16.loss_scale_window", &json->fp16.loss_scale_window);
  reader.Read("fp16.hysteresis", &json->fp16.hysteresis);
  reader.Read("fp16.consecutive_hysteresis", &json->fp16.consecutive_hysteresis);
  reader.Read("fp16.min_loss_scale", &json->fp16.min_loss_scale);
  reader.Read("bf16.enabled", &json->bf16_enabled);
  reader.ReadWord("data_types.grad_accum_dtype", &json->grad_accum_dtype);
  reader.ReadWord("communication_data_type", &json->communication_data_type);
  reader.Read("tensor_parallel.autotp_size", &json->autotp_size);
  reader.Read("aio.block_size", &json->aio.block_size);
  reader.Read("aio.queue_depth", &json->aio.queue_depth);
}

absl::StatusOr<DeepSpeedJson> Parse(std::string_view text, std::string_view source) {
  ABSL_ASSIGN_OR_RETURN(const Json root, ParseStrictJson(text, source, JsonComments::kSkipped));
  if (!root.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": expected a JSON object, got ", ShownJson(root)));
  }
  ABSL_RETURN_IF_ERROR(CheckTypes(root, source));
  DeepSpeedCheck check(source);
  ABSL_RETURN_IF_ERROR(check.Check(root));
  DeepSpeedJson json;
  json.source = std::string(source);
  json.notes = check.notes();
  ABSL_RETURN_IF_ERROR(ReadOptimizer(check, &json));
  ABSL_RETURN_IF_ERROR(ReadScheduler(check, &json));
  ABSL_RETURN_IF_ERROR(ReadZero(check, &json));
  ReadRest(check, &json);
  if (json.fp16.enabled.value_or(false) && json.bf16_enabled.value_or(false)) {
    return Wrong(json, "fp16.enabled and bf16.enabled are both true; choose one");
  }
  return json;
}

}  // namespace

absl::StatusOr<DeepSpeedJson> ParseDeepSpeedJson(std::string_view text, std::string_view source) {
  absl::StatusOr<DeepSpeedJson> json = Parse(text, source);
  if (!json.ok()) return OneLine(json.status());
  return json;
}

absl::StatusOr<DeepSpeedJson> ReadDeepSpeedJson(const std::string& path) {
  ABSL_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMostBytes));
  return ParseDeepSpeedJson(text, path);
}

}  // namespace lathe
