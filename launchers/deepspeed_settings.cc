#include "lathe/launchers/deepspeed_settings.h"

#include <algorithm>
#include <string_view>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "lathe/base/config/field_value.h"
#include "lathe/base/config/schema.h"
#include "lathe/base/python_json.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

// DeepSpeed's defaults where the file says nothing; zero_settings.h has the others.
constexpr double kLearningRate = 1e-3;
constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kLionBeta2 = 0.99;
constexpr double kEpsilon = 1e-8;
constexpr double kWeightDecay = 0;
constexpr double kGradientClipping = 1.0;
constexpr int64_t kWarmupSteps = 1000;
constexpr char kWarmupType[] = "log";
constexpr double kCosMinRatio = 1e-4;

std::string Text(bool value) { return value ? "true" : "false"; }
std::string Text(int64_t value) { return absl::StrCat(value); }
std::string Text(double value) { return PythonFloat(value); }
std::string Text(const std::string& value) { return value; }

template <typename T>
struct Flag {
  std::string_view name;
  bool is_given = false;
  T value;
};

template <typename... Parts>
absl::Status Wrong(const DeepSpeedJson& json, const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(json.source, ": ", parts...));
}

absl::Status Contradictions(const DeepSpeedJson& json, const std::vector<std::string>& pairs) {
  if (pairs.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(json.source, " contradicts the run: ", absl::StrJoin(pairs, "; "),
                   "; set such a key to \"auto\", or change the flag or leave it out"));
}

// Whether the schedule's rates are absolute, so that the optimizer's own has no effect.
bool HasOwnRates(const std::optional<DeepSpeedScheduler>& scheduler) {
  return scheduler && scheduler->type != "WarmupCosineLR";
}

class Resolver {
 public:
  Resolver(const DeepSpeedJson& json, const RunConfig& flags, const DeepSpeedWorld& world)
      : json_(json), flags_(flags.training()), parallel_(flags.parallel()), world_(world) {
    result_.config = flags;
    result_.messages = json.notes;
  }

  absl::StatusOr<DeepSpeedSettings> Resolve() {
    ResolveBatches();
    ResolveOptimizer();
    ResolveRate();
    ResolveScheduler();
    ResolveZero();
    ResolveTensorParallel();
    const absl::Status precision = ResolvePrecision();
    ABSL_RETURN_IF_ERROR(Contradictions(json_, contradictions_));
    ABSL_RETURN_IF_ERROR(precision);
    return std::move(result_);
  }

 private:
  TrainingArguments& training() { return *result_.config.mutable_training(); }

  void Contradict(std::string_view path, std::string_view value, std::string_view flag,
                  std::string_view flag_value) {
    contradictions_.push_back(absl::StrCat(path, " is ", value, ", --", flag, " is ", flag_value));
  }

  void Say(std::string_view message) {
    result_.messages.push_back(absl::StrCat(json_.source, ": ", message));
  }

  // The value that holds of the key `path`; `otherwise` is DeepSpeed's default.
  template <typename T>
  T Hold(std::string_view path, const DeepSpeedValue<T>& json, const Flag<T>& flag, T otherwise) {
    if (json.is_auto) return flag.value;
    if (json.value) {
      if (flag.is_given && flag.value != *json.value) {
        Contradict(path, Text(*json.value), flag.name, Text(flag.value));
      }
      return *json.value;
    }
    if (flag.value != otherwise) {
      Say(flag.is_given ? absl::StrCat("without ", path, " --", flag.name, " ", Text(flag.value),
                                       " holds, where DeepSpeed would take ", Text(otherwise))
                        : absl::StrCat("without ", path, " DeepSpeed's default ", Text(otherwise),
                                       " holds, not --", flag.name, "'s"));
    }
    return flag.is_given ? flag.value : otherwise;
  }

  // Of the three numbers DeepSpeed completes what is not there.
  void ResolveBatches() {
    const Flag<int64_t> micro_flag = {"per_device_train_batch_size",
                                      flags_.has_per_device_train_batch_size(),
                                      flags_.per_device_train_batch_size()};
    const Flag<int64_t> steps_flag = {"gradient_accumulation_steps",
                                      flags_.has_gradient_accumulation_steps(),
                                      flags_.gradient_accumulation_steps()};
    std::optional<int64_t> micro =
        Known("train_micro_batch_size_per_gpu", json_.train_micro_batch_size_per_gpu, micro_flag);
    std::optional<int64_t> steps =
        Known("gradient_accumulation_steps", json_.gradient_accumulation_steps, steps_flag);
    const std::optional<int64_t>& total = json_.train_batch_size.value;
    const int64_t ranks = world_.data_parallel_size;
    if (!micro && !total) micro = micro_flag.value;
    if (!steps && !(total && micro)) steps = 1;
    // Rounded up: where it does not divide, the product is not the total.
    const auto share = [&](int64_t of) { return (*total - 1) / (of * ranks) + 1; };
    if (!steps) steps = share(*micro);
    if (!micro) micro = share(*steps);
    if (total && (*total % (*micro * *steps) != 0 || *total / (*micro * *steps) != ranks)) {
      contradictions_.push_back(absl::StrCat(
          "train_batch_size is ", *total, ", which train_micro_batch_size_per_gpu ", *micro,
          " x gradient_accumulation_steps ", *steps, " x ", ranks, " data-parallel ranks is not"));
    }
    if (*micro != micro_flag.value) training().set_per_device_train_batch_size(*micro);
    if (*steps != steps_flag.value) training().set_gradient_accumulation_steps(*steps);
  }

  // What the file or the user says, nullopt when neither does.
  std::optional<int64_t> Known(std::string_view path, const DeepSpeedValue<int64_t>& json,
                               const Flag<int64_t>& flag) {
    if (json.is_absent() && !flag.is_given) return std::nullopt;
    return Hold(path, json, flag, flag.value);
  }

  absl::Status ResolvePrecision() {
    const Flag<bool> bf16 = {"bf16", flags_.has_bf16(), flags_.bf16()};
    const Flag<bool> fp16 = {"fp16", flags_.has_fp16(), flags_.fp16()};
    const bool in_bf16 = Hold("bf16.enabled", json_.bf16_enabled, bf16, bf16.value);
    const bool in_fp16 = Hold("fp16.enabled", json_.fp16.enabled, fp16, fp16.value);
    if (in_bf16 && in_fp16) {
      return Wrong(json_, json_.bf16_enabled.value ? "bf16.enabled is true" : "--bf16 is set",
                   " and ", json_.fp16.enabled.value ? "fp16.enabled is true" : "--fp16 is set",
                   "; choose one");
    }
    if (in_bf16 != bf16.value) training().set_bf16(in_bf16);
    if (in_fp16 != fp16.value) training().set_fp16(in_fp16);
    const DeepSpeedFp16& from = json_.fp16;
    LossScaleSettings& to = result_.loss_scale;
    to.enabled = in_fp16;
    to.loss_scale = from.loss_scale.value_or(to.loss_scale);
    to.initial_scale_power =
        static_cast<int>(from.initial_scale_power.value_or(to.initial_scale_power));
    to.loss_scale_window = from.loss_scale_window.value_or(to.loss_scale_window);
    to.hysteresis = from.hysteresis.value_or(to.hysteresis);
    to.consecutive_hysteresis = from.consecutive_hysteresis.value_or(to.consecutive_hysteresis);
    to.min_loss_scale = from.min_loss_scale.value_or(to.min_loss_scale);
    return ResolveGradAccumDtype();
  }

  absl::Status ResolveGradAccumDtype() {
    const Flag<std::string> flag = {"grad_accum_dtype", flags_.has_grad_accum_dtype(),
                                    flags_.grad_accum_dtype()};
    const std::string dtype =
        Hold("data_types.grad_accum_dtype", json_.grad_accum_dtype, flag, flag.value);
    if (json_.communication_data_type.value_or(dtype) != dtype) {
      return Wrong(json_, "communication_data_type is ", *json_.communication_data_type.value,
                   ", but gradients travel in the type in which they are accumulated, here ", dtype,
                   " (data_types.grad_accum_dtype or --grad_accum_dtype); leave it out");
    }
    if (dtype == flag.value) return absl::OkStatus();
    training().set_grad_accum_dtype(dtype);
    // The flag knows which types this version has.
    ABSL_ASSIGN_OR_RETURN(const ConfigSchema schema, ConfigSchema::Create(RunConfig::descriptor()));
    const ConfigField* field = schema.Find("grad_accum_dtype");
    const absl::Status checked = CheckValue(*field, field->MutableParent(&result_.config));
    if (checked.ok()) return checked;
    return Wrong(json_, "data_types.grad_accum_dtype: ", checked.message());
  }

  // The file's optimizer, which holds in place of --optim's default.
  void ResolveRule(const DeepSpeedOptimizer& optimizer) {
    std::vector<std::string> names = {"adamw_torch_fused", "adamw_torch"};
    if (optimizer.rule == DeepSpeedOptimizer::Rule::kAdam) names = {"adam"};
    if (optimizer.rule == DeepSpeedOptimizer::Rule::kLion) names = {"lion_32bit"};
    const bool agrees = std::find(names.begin(), names.end(), flags_.optim()) != names.end();
    if (agrees) return;
    if (flags_.has_optim()) {
      Contradict("optimizer.type", Text(optimizer.type), "optim", flags_.optim());
    } else {
      training().set_optim(names[0]);
    }
  }

  void ResolveOptimizer() {
    const Flag<double> clip = {"max_grad_norm", flags_.has_max_grad_norm(), flags_.max_grad_norm()};
    const double max_grad_norm =
        Hold("gradient_clipping", json_.gradient_clipping, clip, kGradientClipping);
    if (max_grad_norm != clip.value) training().set_max_grad_norm(max_grad_norm);
    if (!json_.optimizer) return;
    const DeepSpeedOptimizer& optimizer = *json_.optimizer;
    ResolveRule(optimizer);
    const bool is_lion = optimizer.rule == DeepSpeedOptimizer::Rule::kLion;
    DeepSpeedValue<double> beta1, beta2;
    beta1.is_auto = beta2.is_auto = optimizer.betas.is_auto;
    if (optimizer.betas.value) {
      std::tie(beta1.value, beta2.value) = *optimizer.betas.value;
    }
    const Flag<double> flag1 = {"adam_beta1", flags_.has_adam_beta1(), flags_.adam_beta1()};
    const Flag<double> flag2 = {"adam_beta2", flags_.has_adam_beta2(), flags_.adam_beta2()};
    const Flag<double> eps = {"adam_epsilon", flags_.has_adam_epsilon(), flags_.adam_epsilon()};
    const Flag<double> decay = {"weight_decay", flags_.has_weight_decay(), flags_.weight_decay()};
    training().set_adam_beta1(Hold("optimizer.params.betas[0]", beta1, flag1, kBeta1));
    training().set_adam_beta2(
        Hold("optimizer.params.betas[1]", beta2, flag2, is_lion ? kLionBeta2 : kBeta2));
    if (!is_lion) {
      training().set_adam_epsilon(Hold("optimizer.params.eps", optimizer.eps, eps, kEpsilon));
    }
    const double weight_decay =
        Hold("optimizer.params.weight_decay", optimizer.weight_decay, decay, kWeightDecay);
    training().set_weight_decay(weight_decay);
    result_.all_parameters_decay = true;
    Say(absl::StrCat("its optimizer block applies weight decay ", Text(weight_decay),
                     " to all parameters: the no-decay groups of biases and norms are dropped, as "
                     "under Hugging Face's Trainer"));
  }

  Flag<double> RateFlag() const {
    return {"learning_rate", flags_.has_learning_rate(), flags_.learning_rate()};
  }

  // The peak of the learning rate: the scheduler's where it has one, else the optimizer's.
  void ResolveRate() {
    constexpr std::string_view kPeakPath = "scheduler.params.warmup_max_lr";
    constexpr std::string_view kRatePath = "optimizer.params.lr";
    const DeepSpeedValue<double> none;
    const DeepSpeedValue<double>& lr = json_.optimizer ? json_.optimizer->lr : none;
    const DeepSpeedValue<double>& peak =
        HasOwnRates(json_.scheduler) ? json_.scheduler->warmup_max_lr : none;
    const bool takes_default =
        peak.is_absent() && json_.scheduler && json_.scheduler->type == "WarmupDecayLR";
    if (peak.value || takes_default || (peak.is_auto && !lr.value)) {
      SetRate(Hold(kPeakPath, peak, RateFlag(), kLearningRate));
      if (lr.value && *lr.value != result_.config.training().learning_rate()) {
        Say(absl::StrCat(kRatePath, " ", Text(*lr.value), " has no effect: ", json_.scheduler->type,
                         " sets the rate"));
      }
    } else if (json_.optimizer) {
      // A peak that is "auto" or absent is the optimizer's rate.
      SetRate(Hold(kRatePath, lr, RateFlag(), kLearningRate));
    }
  }

  void SetRate(double rate) {
    if (rate != flags_.learning_rate()) training().set_learning_rate(rate);
  }

  void ResolveScheduler() {
    if (!json_.scheduler) return;
    const DeepSpeedScheduler& scheduler = *json_.scheduler;
    // A share of the run becomes a number, and is compared, when the run's length is known.
    const bool is_share =
        flags_.warmup_steps() < 1 && (flags_.warmup_steps() > 0 || flags_.warmup_ratio() > 0);
    const bool is_given = flags_.has_warmup_steps() || flags_.has_warmup_ratio();
    if (!is_share) {
      const Flag<int64_t> warmup = {
          "warmup_steps", is_given,
          std::max(int64_t{1}, static_cast<int64_t>(flags_.warmup_steps()))};
      const int64_t steps = Hold("scheduler.params.warmup_num_steps", scheduler.warmup_num_steps,
                                 warmup, kWarmupSteps);
      if (steps != warmup.value) training().set_warmup_steps(static_cast<double>(steps));
    }
    if (scheduler.total_num_steps.value && flags_.max_steps() > 0 &&
        flags_.max_steps() != *scheduler.total_num_steps.value) {
      Contradict("scheduler.params.total_num_steps", Text(*scheduler.total_num_steps.value),
                 "max_steps", absl::StrCat(flags_.max_steps()));
    }
    Say(absl::StrCat("its scheduler ", scheduler.type, " replaces --lr_scheduler_type ",
                     flags_.lr_scheduler_type(), ": after the warmup the rate ",
                     scheduler.type == "WarmupLR"        ? "stays at its peak"
                     : scheduler.type == "WarmupDecayLR" ? "falls linearly to 0"
                                                         : "falls along a cosine"));
  }

  void ResolveZero() {
    const DeepSpeedZero& from = json_.zero_optimization;
    ZeroSettings& to = result_.zero;
    to.stage = static_cast<int>(from.stage.value_or(0));
    const int64_t hidden = world_.hidden_size;
    to.reduce_bucket_size = Sized(from.reduce_bucket_size, hidden * hidden, to.reduce_bucket_size);
    to.allgather_bucket_size = from.allgather_bucket_size.value_or(to.allgather_bucket_size);
    to.overlap_comm = from.overlap_comm.value_or(true);
    to.contiguous_gradients = from.contiguous_gradients.value_or(to.contiguous_gradients);
    to.sub_group_size = from.sub_group_size.value_or(to.sub_group_size);
    const double prefetch = 0.9 * static_cast<double>(hidden) * static_cast<double>(hidden);
    to.prefetch_bucket_size = Stage3Sized(from.stage3_prefetch_bucket_size,
                                          static_cast<int64_t>(prefetch), to.prefetch_bucket_size);
    to.param_persistence_threshold = Stage3Sized(from.stage3_param_persistence_threshold,
                                                 10 * hidden, to.param_persistence_threshold);
    to.model_persistence_threshold =
        from.stage3_model_persistence_threshold.value_or(to.model_persistence_threshold);
    to.max_live_parameters = from.stage3_max_live_parameters.value_or(to.max_live_parameters);
    SetOffload(from.offload_optimizer, &to.offload_optimizer);
    SetOffload(from.offload_param, &to.offload_param);
    to.disk.block_size_bytes = json_.aio.block_size.value_or(to.disk.block_size_bytes);
    to.disk.queue_depth = json_.aio.queue_depth.value_or(to.disk.queue_depth);
  }

  static int64_t Sized(const DeepSpeedValue<int64_t>& json, int64_t by_hidden_size,
                       int64_t otherwise) {
    return json.is_auto ? by_hidden_size : json.value_or(otherwise);
  }

  // "auto" is resolved at stage 3 only; elsewhere it is left to DeepSpeed, which takes its default.
  int64_t Stage3Sized(const DeepSpeedValue<int64_t>& json, int64_t by_hidden_size,
                      int64_t otherwise) const {
    return Sized(json, result_.zero.stage == 3 ? by_hidden_size : otherwise, otherwise);
  }

  static void SetOffload(const DeepSpeedOffload& from, OffloadSettings* to) {
    const std::string device = from.device.value_or("none");
    to->device = device == "cpu"    ? OffloadDevice::kCpu
                 : device == "nvme" ? OffloadDevice::kNvme
                                    : OffloadDevice::kNone;
    to->nvme_path = from.nvme_path.value_or("");
    to->pin_memory = from.pin_memory.value_or(to->pin_memory);
    to->buffer_count = from.buffer_count.value_or(to->buffer_count);
    to->buffer_size = from.buffer_size.value_or(to->buffer_size);
    to->max_in_cpu = from.max_in_cpu.value_or(to->max_in_cpu);
  }

  // The mesh is made of the flags, so the file can only agree.
  void ResolveTensorParallel() {
    const int64_t size = json_.autotp_size.value_or(0);
    if (size > 0 && size != parallel_.tensor_model_parallel_size()) {
      Contradict("tensor_parallel.autotp_size", Text(size), "tensor_model_parallel_size",
                 absl::StrCat(parallel_.tensor_model_parallel_size()));
    }
  }

  const DeepSpeedJson& json_;
  const TrainingArguments& flags_;
  const ParallelArguments& parallel_;
  const DeepSpeedWorld& world_;
  DeepSpeedSettings result_;
  std::vector<std::string> contradictions_;
};

}  // namespace

absl::StatusOr<DeepSpeedSettings> ApplyDeepSpeed(const DeepSpeedJson& json, const RunConfig& flags,
                                                 const DeepSpeedWorld& world) {
  return Resolver(json, flags, world).Resolve();
}

absl::StatusOr<std::optional<LrScheduleOptions>> DeepSpeedSchedule(const DeepSpeedJson& json,
                                                                   const RunConfig& config,
                                                                   int64_t max_steps,
                                                                   int64_t warmup_steps) {
  if (!json.scheduler) return std::nullopt;
  const DeepSpeedScheduler& scheduler = *json.scheduler;
  // DeepSpeed's schedules have a warmup of at least one step.
  warmup_steps = std::max<int64_t>(1, warmup_steps);
  std::vector<std::string> contradictions;
  const auto compare = [&](const char* name, const DeepSpeedValue<int64_t>& value, int64_t run) {
    if (!value.value || *value.value == run) return;
    contradictions.push_back(
        absl::StrCat("scheduler.params.", name, " is ", *value.value, ", the run has ", run));
  };
  compare("total_num_steps", scheduler.total_num_steps, max_steps);
  compare("warmup_num_steps", scheduler.warmup_num_steps, warmup_steps);
  ABSL_RETURN_IF_ERROR(Contradictions(json, contradictions));
  const double rate = config.training().learning_rate();
  nlohmann::ordered_json kwargs = {{"warmup_type", scheduler.warmup_type.value_or(kWarmupType)}};
  if (HasOwnRates(json.scheduler)) {
    kwargs["warmup_min_lr"] = scheduler.warmup_min_lr.value_or(0);
    kwargs["warmup_max_lr"] = rate;
  } else {
    kwargs["warmup_min_ratio"] = scheduler.warmup_min_ratio.value_or(0);
    kwargs["cos_min_ratio"] = scheduler.cos_min_ratio.value_or(kCosMinRatio);
  }
  return LrScheduleOptions{.type = scheduler.type,
                           .num_warmup_steps = warmup_steps,
                           .num_training_steps = max_steps,
                           .learning_rate = rate,
                           .kwargs = kwargs.dump()};
}

}  // namespace lathe
