#include "lathe/zero/deepspeed_keys.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace lathe {
namespace {

using Fate = DeepSpeedKey::Fate;
using Kind = DeepSpeedType::Kind;
using Key = DeepSpeedKey;
using Type = DeepSpeedType;

// Integers are exact in a double up to here; JSON's other numbers are doubles.
constexpr double kMost = 9007199254740992.0;
constexpr double kMostSamples = std::numeric_limits<int32_t>::max();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

constexpr Type kBool = {Kind::kBool};
constexpr Type kText = {Kind::kText};
constexpr Type kAny = {Kind::kAny};
constexpr Type Integer(double min, double max = kMost) { return {Kind::kInteger, min, max}; }
constexpr Type Number(double min, double max = kInfinity) { return {Kind::kNumber, min, max}; }
constexpr Type OneOf(std::string_view words) { return {Kind::kText, 0, 0, words}; }

constexpr Key Block(std::string_view path) { return {path, Fate::kHonoured, {Kind::kBlock}}; }
constexpr Key Honoured(std::string_view path, Type type) { return {path, Fate::kHonoured, type}; }
// "auto" is resolved, by Hugging Face's rule or to the default.
constexpr Key HonouredOrAuto(std::string_view path, Type type) {
  return {path, Fate::kHonoured, type, /*takes_auto=*/true};
}
constexpr Key Ignored(std::string_view path, Type type, std::string_view neutral,
                      std::string_view reason) {
  return {path, Fate::kIgnored, type, /*takes_auto=*/false, neutral, reason};
}
constexpr Key Refused(std::string_view path, Type type, std::string_view neutral,
                      std::string_view reason) {
  return {path, Fate::kRefused, type, /*takes_auto=*/false, neutral, reason};
}
constexpr Key IgnoredSwitch(std::string_view path, std::string_view keys, std::string_view reason) {
  return {path, Fate::kIgnored, {Kind::kSwitch, 0, 0, keys}, false, "", reason};
}
constexpr Key RefusedSwitch(std::string_view path, std::string_view keys, std::string_view reason) {
  return {path, Fate::kRefused, {Kind::kSwitch, 0, 0, keys}, false, "", reason};
}

constexpr std::string_view kNoKernels = "there are no such kernels here";
constexpr std::string_view kNoCompression = "there is no quantisation or pruning in training";
constexpr std::string_view kNoExperts = "there are no mixture-of-experts models yet";
constexpr std::string_view kOwnOrder = "there is one way to do it, which the engine chooses";
constexpr std::string_view kOwnData =
    "the data order is train_sampling_strategy's, in whole samples";
constexpr std::string_view kOwnReports = "metrics go where --report_to says";
constexpr std::string_view kCheckpointing =
    "--gradient_checkpointing and the --recompute_ flags say what is computed again; under "
    "Hugging Face's Trainer this block has no effect either";
constexpr std::string_view kMasters = "master weights are fp32";
constexpr std::string_view kMixedPrecision = "use bf16 or fp16";

constexpr Key kKeys[] = {
    // Batches and the update.
    HonouredOrAuto("train_batch_size", Integer(1, kMostSamples)),
    HonouredOrAuto("train_micro_batch_size_per_gpu", Integer(1, kMostSamples)),
    HonouredOrAuto("gradient_accumulation_steps", Integer(1, kMostSamples)),
    Refused("managed_gradient_accumulation", kBool, "true",
            "the trainer steps at the end of each window of gradient_accumulation_steps"),
    HonouredOrAuto("gradient_clipping", Number(0)),
    Ignored("dataloader_drop_last", kBool, "false",
            "--dataloader_drop_last decides, as under Hugging Face's Trainer"),

    // Optimizer.
    Block("optimizer"),
    Honoured("optimizer.type", kText),
    Ignored("optimizer.legacy_fusion", kBool, "false", kOwnOrder),
    Block("optimizer.params"),
    HonouredOrAuto("optimizer.params.lr", Number(0)),
    HonouredOrAuto("optimizer.params.betas", kAny),
    HonouredOrAuto("optimizer.params.eps", Number(0)),
    HonouredOrAuto("optimizer.params.weight_decay", Number(0)),
    Honoured("optimizer.params.adam_w_mode", kBool),
    Refused("optimizer.params.bias_correction", kBool, "true",
            "AdamW here always corrects its bias"),
    Refused("optimizer.params.amsgrad", kBool, "false", "AdamW here has no AMSGrad"),
    Refused("optimizer.params.maximize", kBool, "false", "training minimises"),
    Refused("optimizer.params.fp32_optimizer_states", kBool, "true",
            "leave the block out and give --optim_args state_dtype=bf16"),
    Refused("optimizer.params.max_grad_norm", Number(0), "0",
            "DeepSpeed refuses it too; use gradient_clipping"),
    Ignored("optimizer.params.torch_adam", kBool, "false true", ""),
    Ignored("optimizer.params.fused", kBool, "false true", ""),
    Ignored("optimizer.params.foreach", kBool, "false true", ""),
    Ignored("optimizer.params.capturable", kBool, "false", kOwnOrder),
    Ignored("optimizer.params.differentiable", kBool, "false", kOwnOrder),
    Ignored("optimizer.params.set_grad_none", kBool, "false true", ""),
    Ignored("zero_allow_untested_optimizer", kBool, "false true", ""),
    Ignored("zero_force_ds_cpu_optimizer", kBool, "false true", ""),

    // Scheduler.
    Block("scheduler"),
    Honoured("scheduler.type", kText),
    Block("scheduler.params"),
    HonouredOrAuto("scheduler.params.warmup_min_lr", Number(0)),
    HonouredOrAuto("scheduler.params.warmup_max_lr", Number(0)),
    HonouredOrAuto("scheduler.params.warmup_num_steps", Integer(0)),
    HonouredOrAuto("scheduler.params.total_num_steps", Integer(1)),
    Honoured("scheduler.params.warmup_type", OneOf("log linear")),
    Honoured("scheduler.params.warmup_min_ratio", Number(0)),
    Honoured("scheduler.params.cos_min_ratio", Number(0)),
    Refused("scheduler.params.last_batch_iteration", Integer(-1), "-1",
            "a resumed run knows its step from the checkpoint"),

    // Precision.
    Block("fp16"),
    HonouredOrAuto("fp16.enabled", kBool),
    HonouredOrAuto("fp16.loss_scale", Number(0)),
    HonouredOrAuto("fp16.initial_scale_power", Integer(0, 126)),
    HonouredOrAuto("fp16.loss_scale_window", Integer(1)),
    HonouredOrAuto("fp16.hysteresis", Integer(1)),
    HonouredOrAuto("fp16.consecutive_hysteresis", kBool),
    HonouredOrAuto("fp16.min_loss_scale", Integer(0)),
    Ignored("fp16.auto_cast", kBool, "false", "the models' inputs are token ids"),
    Ignored("fp16.fused_mode", kBool, "true false", ""),
    Refused("fp16.fp16_master_weights_and_grads", kBool, "false", kMasters),
    Block("bf16"),
    HonouredOrAuto("bf16.enabled", kBool),
    Ignored("bf16.immediate_grad_update", kBool, "true false", ""),
    Ignored("bf16.check_grad_overflow", kBool, "true",
            "an update that is not finite is always skipped"),
    Refused("bf16.bf16_master_weights_and_grads", kBool, "false", kMasters),
    Refused("bf16.bf16_optimizer_states", kBool, "false", "give --optim_args state_dtype=bf16"),
    RefusedSwitch("amp",
                  "enabled opt_level cast_model_type patch_torch_functions keep_batchnorm_fp32 "
                  "master_weights cast_model_outputs num_losses verbosity min_loss_scale "
                  "max_loss_scale loss_scale",
                  "there is no Apex here; use bf16 or fp16"),
    RefusedSwitch("torch_autocast", "enabled dtype lower_precision_safe_modules", kMixedPrecision),
    Block("data_types"),
    HonouredOrAuto("data_types.grad_accum_dtype", OneOf("fp32 bf16 fp16")),
    Refused("data_types.param_dtype", kText, "", kMixedPrecision),
    Refused("data_types.buffer_dtype", kText, "", "the models' buffers are fp32"),
    Refused("data_types.keep_in_fp32_modules", kAny, "\"auto\"",
            "norms, softmax, RoPE and the loss are computed in fp32, products are not"),

    // Communication.
    Honoured("communication_data_type", OneOf("fp32 bf16 fp16")),
    Ignored("seq_parallel_communication_data_type", OneOf("fp32 bf16 fp16"), "\"fp32\"",
            "it is for Ulysses' sequence parallelism, which is not here"),
    Refused("sequence_parallel_size", Integer(1), "1",
            "there is no Ulysses; --sequence_parallel splits sequences over tensor ranks"),
    Refused("gradient_allreduce_op", OneOf("mean sum"), "\"mean\"",
            "an update's loss is the mean over the tokens of all ranks"),
    Ignored("prescale_gradients", kBool, "false",
            "gradients are summed in fp32, which does not overflow"),
    Ignored("gradient_predivide_factor", Number(0), "1",
            "gradients are summed in fp32, which does not overflow"),
    Ignored("fp32_allreduce", kBool, "false true", ""),
    Ignored("disable_allgather", kBool, "false", kOwnOrder),
    Ignored("sparse_gradients", kBool, "false", "an embedding's gradient is dense"),
    Ignored("use_data_before_expert_parallelism", kBool, "false", kNoExperts),

    // Other kinds of parallelism.
    Block("tensor_parallel"),
    Honoured("tensor_parallel.autotp_size", Integer(0)),
    Ignored("tensor_parallel.preset_model", kText, "",
            "the model's family says how its layers are split"),
    Ignored("tensor_parallel.tp_overlap_comm", kBool, "false true", ""),
    Ignored("tensor_parallel.vocab_parallel_lm_head", kBool, "true",
            "the vocabulary is always split"),
    Ignored("tensor_parallel.vocab_parallel_ce_backend", OneOf("torch liger"), "\"torch\"",
            kNoKernels),
    Ignored("tensor_parallel.keep_module_on_host", kBool, "false", kOwnOrder),
    Ignored("tensor_parallel.dtype", kText, "", kMixedPrecision),
    Refused("tensor_parallel.replace_with_kernel_inject", kBool, "false", kNoKernels),
    Refused("tensor_parallel.partition_config", kAny, "{}",
            "the model's family says how its layers are split"),
    Refused("tensor_parallel.injection_policy_tuple", kAny, "",
            "the model's family says how its layers are split"),
    Refused("tensor_parallel.tp", kAny, "{}", "use --tensor_model_parallel_size"),
    Refused("pipeline", kAny, "{}",
            "use --pipeline_model_parallel_size and its like; every ZeRO stage goes with them"),
    RefusedSwitch(
        "expert_parallel",
        "enabled autoep_size expert_tensor_parallel_size async_split_plan preset_model "
        "use_grouped_mm disable_triton_grouped_mm moe_layer_pattern router_pattern "
        "expert_pattern score_func score_apply combine_impl row_weighting_impl gate_up_impl "
        "comm_backend comm_num_sm comm_qp_margin comm_max_tokens_per_rank route_norm "
        "route_scale top_k routed_scaling_factor num_expert_groups num_limited_groups "
        "load_balance_coeff expert_w1 expert_w2 expert_w3 num_experts_attr top_k_attr "
        "has_shared_experts shared_experts_pattern validate_folding_routing",
        kNoExperts),
    RefusedSwitch("hybrid_engine",
                  "enabled max_out_tokens inference_tp_size release_inference_cache pin_parameters "
                  "tp_gather_partition_size enable_cuda_graph",
                  "there is no generation in training"),

    // Memory and disks.
    Block("activation_checkpointing"),
    Ignored("activation_checkpointing.partition_activations", kBool, "false", kCheckpointing),
    Ignored("activation_checkpointing.cpu_checkpointing", kBool, "false", kCheckpointing),
    Ignored("activation_checkpointing.contiguous_memory_optimization", kBool, "false",
            kCheckpointing),
    Ignored("activation_checkpointing.number_checkpoints", Integer(0), "", kCheckpointing),
    Ignored("activation_checkpointing.synchronize_checkpoint_boundary", kBool, "false",
            kCheckpointing),
    Ignored("activation_checkpointing.profile", kBool, "false", kCheckpointing),
    Block("aio"),
    Honoured("aio.block_size", Integer(512, 1 << 30)),
    Honoured("aio.queue_depth", Integer(1, 4096)),
    Ignored("aio.thread_count", Integer(1), "1", kOwnOrder),
    Ignored("aio.intra_op_parallelism", Integer(1), "1", kOwnOrder),
    Ignored("aio.single_submit", kBool, "false", kOwnOrder),
    Ignored("aio.overlap_events", kBool, "true", kOwnOrder),
    Refused("aio.use_gds", kBool, "false", "disks are read into host memory"),

    // Logs, timings and checkpoints.
    Ignored("steps_per_print", Number(0), "", "--logging_steps says how often the loss is logged"),
    Ignored("wall_clock_breakdown", kBool, "false",
            "the log has tokens per second and no timings of parts"),
    Ignored("memory_breakdown", kBool, "false", "train_results.json has peak_memory_bytes"),
    Ignored("dump_state", kBool, "false", "the log begins with the configuration"),
    Ignored("log_level", kText, "", "--log_level decides"),
    Ignored("vocabulary_size", Integer(0), "", "the model's config.json has it"),
    Ignored("disable_python_gc", kBool, "false true", ""),
    Ignored("graph_harvesting", kBool, "false", kNoKernels),
    IgnoredSwitch("flops_profiler",
                  "enabled recompute_fwd_factor profile_step module_depth top_modules detailed "
                  "output_file",
                  "train_results.json has model_flops_utilization"),
    IgnoredSwitch("comms_logger", "enabled verbose prof_all debug prof_ops",
                  "--log_communication counts what is sent"),
    IgnoredSwitch("tensorboard", "enabled output_path job_name", kOwnReports),
    IgnoredSwitch("wandb", "enabled group team project", kOwnReports),
    IgnoredSwitch("comet",
                  "enabled samples_log_interval project workspace api_key experiment_name "
                  "experiment_key online mode",
                  kOwnReports),
    IgnoredSwitch("csv_monitor", "enabled output_path job_name", kOwnReports),
    Block("timers"),
    Block("timers.throughput"),
    Ignored("timers.throughput.enabled", kBool, "false true", ""),
    Ignored("timers.throughput.synchronized", kBool, "false true", ""),
    Block("checkpoint"),
    Ignored("checkpoint.tag_validation", OneOf("Ignore Warn Fail"), "\"Warn\" \"Fail\"",
            "ranks always agree on a checkpoint's name"),
    Ignored("checkpoint.load_universal", kBool, "false", "every checkpoint loads in every layout"),
    Refused("checkpoint.use_node_local_storage", kBool, "false",
            "all machines write into one shared output_dir"),
    Block("checkpoint.parallel_write"),
    Ignored("checkpoint.parallel_write.pipeline_stage", kBool, "false true", ""),
    Ignored("checkpoint.checkpoint_serialization", kBool, "false true", ""),
    Ignored("checkpoint.writer", kAny, "{}", "a checkpoint is safetensors, written by all ranks"),
    RefusedSwitch(
        "nebula",
        "enabled persistent_storage_path persistent_time_interval num_of_version_in_retention "
        "enable_nebula_load load_path",
        "checkpoints are written into output_dir"),
    Refused("datastates_ckpt", kAny, "false", "checkpoints are written into output_dir"),

    // What is another way to train.
    RefusedSwitch(
        "autotuning",
        "enabled fast results_dir exps_dir overwrite start_profile_step end_profile_step metric "
        "metric_path tuner_type tuner_early_stopping tuner_num_trials arg_mappings model_info "
        "model_info_path mp_size max_train_batch_size min_train_batch_size "
        "max_train_micro_batch_size_per_gpu min_train_micro_batch_size_per_gpu "
        "num_tuning_micro_batch_sizes",
        "batch sizes are the user's choice"),
    RefusedSwitch(
        "elasticity",
        "enabled max_train_batch_size micro_batch_sizes min_gpus max_gpus min_time version "
        "ignore_non_elastic_batch_info prefer_larger_batch model_parallel_size num_gpus_per_node",
        "a run keeps its ranks; resumed from its checkpoint it may have others"),
    RefusedSwitch("compile",
                  "enabled deepcompile backend kwargs autoep_non_moe free_activation "
                  "free_activation_threshold offload_activation offload_activation_pin_memory "
                  "offload_opt_states double_buffer symmetric_memory debug_log offload_parameters "
                  "sync_before_reduce sync_after_reduce sync_before_allgather sync_after_allgather "
                  "keep_int_input_tensors keep_all_input_tensors passes",
                  "there is no Python to compile"),
    RefusedSwitch("data_efficiency", "enabled seed data_routing data_sampling", kOwnData),
    RefusedSwitch(
        "curriculum_learning",
        "enabled curriculum_type min_difficulty max_difficulty schedule_type schedule_config",
        kOwnData),
    RefusedSwitch("progressive_layer_drop", "enabled theta gamma",
                  "every layer takes part in every step"),
    RefusedSwitch(
        "eigenvalue",
        "enabled verbose max_iter tol stability gas_boundary_resolution layer_name layer_num",
        kNoCompression),
    RefusedSwitch(
        "quantize_training",
        "enabled quantize_bits quantize_type quantize_schedule quantize_groups quantize_algo "
        "fp16_mixed_quantize quantize_verbose quantizer_kernel eigenvalue schedule_offset "
        "quantize_change_ratio",
        kNoCompression),
    RefusedSwitch(
        "compression_training",
        "weight_quantization activation_quantization sparse_pruning row_pruning head_pruning "
        "channel_pruning layer_reduction",
        kNoCompression),
    Refused("weight_quantization", kAny, "{}", kNoCompression),
    Refused("sparse_attention", kAny, "{}", "attention is dense and causal"),

    // ZeRO.
    Block("zero_optimization"),
    Honoured("zero_optimization.stage", Integer(0, 3)),
    HonouredOrAuto("zero_optimization.reduce_bucket_size", Integer(0)),
    HonouredOrAuto("zero_optimization.allgather_bucket_size", Integer(0)),
    HonouredOrAuto("zero_optimization.overlap_comm", kBool),
    HonouredOrAuto("zero_optimization.contiguous_gradients", kBool),
    HonouredOrAuto("zero_optimization.sub_group_size", Integer(0)),
    HonouredOrAuto("zero_optimization.stage3_prefetch_bucket_size", Integer(0)),
    HonouredOrAuto("zero_optimization.stage3_param_persistence_threshold", Integer(0)),
    HonouredOrAuto("zero_optimization.stage3_model_persistence_threshold", Integer(0)),
    HonouredOrAuto("zero_optimization.stage3_max_live_parameters", Integer(0)),
    Honoured("zero_optimization.cpu_offload", kBool),
    Honoured("zero_optimization.cpu_offload_param", kBool),
    Ignored("zero_optimization.cpu_offload_use_pin_memory", kBool, "false true", ""),
    Block("zero_optimization.offload_optimizer"),
    HonouredOrAuto("zero_optimization.offload_optimizer.device", OneOf("none cpu nvme")),
    HonouredOrAuto("zero_optimization.offload_optimizer.nvme_path", kText),
    HonouredOrAuto("zero_optimization.offload_optimizer.pin_memory", kBool),
    HonouredOrAuto("zero_optimization.offload_optimizer.buffer_count", Integer(1, 1024)),
    Ignored("zero_optimization.offload_optimizer.buffer_size", Integer(0), "",
            "the optimizer's buffers are sub_group_size"),
    Ignored("zero_optimization.offload_optimizer.pipeline_read", kBool, "false true", ""),
    Ignored("zero_optimization.offload_optimizer.pipeline_write", kBool, "false true", ""),
    Ignored("zero_optimization.offload_optimizer.fast_init", kBool, "false true", ""),
    Ignored("zero_optimization.offload_optimizer.convert_grad_on_cpu", kBool, "false true", ""),
    Ignored("zero_optimization.offload_optimizer.cpuadam_cores_perc", Number(0, 1), "", kOwnOrder),
    Refused("zero_optimization.offload_optimizer.ratio", Number(0, 1), "1",
            "the optimizer is offloaded whole or not at all"),
    Refused("zero_optimization.offload_optimizer.super_offload", kBool, "false", kOwnOrder),
    Block("zero_optimization.offload_param"),
    HonouredOrAuto("zero_optimization.offload_param.device", OneOf("none cpu nvme")),
    HonouredOrAuto("zero_optimization.offload_param.nvme_path", kText),
    HonouredOrAuto("zero_optimization.offload_param.pin_memory", kBool),
    HonouredOrAuto("zero_optimization.offload_param.buffer_count", Integer(1, 1024)),
    HonouredOrAuto("zero_optimization.offload_param.buffer_size", Integer(1)),
    HonouredOrAuto("zero_optimization.offload_param.max_in_cpu", Integer(0)),
    Ignored("zero_optimization.stage3_max_reuse_distance", Integer(0), "1000000000 \"auto\"",
            "stage3_max_live_parameters alone decides what stays gathered"),
    Ignored("zero_optimization.stage3_gather_16bit_weights_on_model_save", kBool,
            "false true \"auto\"", ""),
    Ignored("zero_optimization.stage3_gather_fp16_weights_on_model_save", kBool, "false true", ""),
    Ignored("zero_optimization.stage3_module_granularity_threshold", Integer(0), "0", kOwnOrder),
    Ignored("zero_optimization.stage3_use_all_reduce_for_fetch_params", kBool, "false", kOwnOrder),
    Ignored("zero_optimization.stage3_allgather_sequential", kBool, "false", kOwnOrder),
    Ignored("zero_optimization.stage3_partition_stream_chunk_size", Integer(0), "0",
            "no rank ever holds the whole model"),
    Ignored("zero_optimization.reduce_scatter", kBool, "true",
            "gradients are reduced to the rank that needs them at every stage"),
    Ignored("zero_optimization.use_multi_rank_bucket_allreduce", kBool, "true false", ""),
    Ignored("zero_optimization.allgather_partitions", kBool, "true", "weights are always gathered"),
    Ignored("zero_optimization.load_from_fp32_weights", kBool, "true",
            "master weights come from the checkpoint in fp32"),
    Ignored("zero_optimization.elastic_checkpoint", kBool, "false true", ""),
    Ignored("zero_optimization.ignore_unused_parameters", kBool, "true",
            "a parameter without gradient is no error"),
    Ignored("zero_optimization.legacy_stage1", kBool, "false", kOwnOrder),
    Ignored("zero_optimization.round_robin_gradients", kBool, "false true", ""),
    Ignored("zero_optimization.parameter_alignment", kBool, "false", kOwnOrder),
    Ignored("zero_optimization.compute_grad_norm", kBool, "true", "grad_norm is always logged"),
    Ignored("zero_optimization.memory_efficient_linear", kBool, "true false", ""),
    Ignored("zero_optimization.pipeline_loading_checkpoint", kBool, "true false", ""),
    Ignored("zero_optimization.override_module_apply", kBool, "true false", ""),
    Ignored("zero_optimization.log_trace_cache_warnings", kBool, "true false", ""),
    Ignored("zero_optimization.enable_sanity_checks", kBool, "true false", ""),
    Ignored("zero_optimization.save_muon_momentum_buffer_in_memory", kBool, "false",
            "optimizer states lie where offload_optimizer says"),
    Ignored("zero_optimization.leaf_module", kAny, "{}", kNoExperts),
    Refused("zero_optimization.zenflow", kAny, "", "every update uses its own gradients"),
    Refused("zero_optimization.zero_hpz_partition_size", Integer(0), "0 1",
            "ZeRO++'s secondary partition is not here"),
    Refused("zero_optimization.zero_quantized_weights", kBool, "false",
            "ZeRO++'s quantised communication is not here: weights travel in their own type"),
    Refused("zero_optimization.zero_quantized_nontrainable_weights", kBool, "false",
            "ZeRO++'s quantised communication is not here: weights travel in their own type"),
    Refused("zero_optimization.zero_quantized_gradients", kBool, "false",
            "ZeRO++'s quantised communication is not here: gradients are summed in fp32"),
    Refused("zero_optimization.zeropp_loco_param", kAny, "",
            "ZeRO++'s quantised communication is not here: gradients are summed in fp32"),
    Refused("zero_optimization.mics_shard_size", Integer(-1), "-1",
            "MiCS is not here: states are split over all data-parallel ranks"),
    Refused("zero_optimization.mics_hierarchical_params_gather", kBool, "false",
            "MiCS is not here: states are split over all data-parallel ranks"),
};

// Older spelling or DeepSpeed's second name, and the one in the table.
struct Alias {
  std::string_view name, path;
};
constexpr Alias kAliases[] = {
    {"bfloat16", "bf16"},
    {"seq_parallel_comm_data_type", "seq_parallel_communication_data_type"},
    {"use_data_before_expert_parallel", "use_data_before_expert_parallelism"},
    {"zero_optimization.prefetch_bucket_size", "zero_optimization.stage3_prefetch_bucket_size"},
    {"zero_optimization.param_persistence_threshold",
     "zero_optimization.stage3_param_persistence_threshold"},
    {"zero_optimization.model_persistence_threshold",
     "zero_optimization.stage3_model_persistence_threshold"},
    {"zero_optimization.max_live_parameters", "zero_optimization.stage3_max_live_parameters"},
    {"zero_optimization.max_reuse_distance", "zero_optimization.stage3_max_reuse_distance"},
    {"zero_optimization.gather_16bit_weights_on_model_save",
     "zero_optimization.stage3_gather_16bit_weights_on_model_save"},
    {"zero_optimization.module_granularity_threshold",
     "zero_optimization.stage3_module_granularity_threshold"},
    {"zero_optimization.use_all_reduce_for_fetch_params",
     "zero_optimization.stage3_use_all_reduce_for_fetch_params"},
    {"zero_optimization.allgather_sequential", "zero_optimization.stage3_allgather_sequential"},
    {"zero_optimization.partition_stream_chunk_size",
     "zero_optimization.stage3_partition_stream_chunk_size"},
    {"tensor_parallel.kernel_inject", "tensor_parallel.replace_with_kernel_inject"},
    {"tensor_parallel.tensor_parallel", "tensor_parallel.tp"},
};

// The name of `path` within `block`, or "" when it is not a key of that block.
std::string_view NameWithin(std::string_view path, std::string_view block) {
  if (!block.empty()) {
    if (!absl::StartsWith(path, block) || path.size() <= block.size() ||
        path[block.size()] != '.') {
      return "";
    }
    path.remove_prefix(block.size() + 1);
  }
  return absl::StrContains(path, '.') ? "" : path;
}

}  // namespace

absl::Span<const DeepSpeedKey> DeepSpeedKeys() { return kKeys; }

const DeepSpeedKey* FindDeepSpeedKey(std::string_view path) {
  std::string canonical(path);
  for (const Alias& alias : kAliases) {
    if (path == alias.name || absl::StartsWith(path, absl::StrCat(alias.name, "."))) {
      canonical = absl::StrCat(alias.path, path.substr(alias.name.size()));
    }
  }
  const auto* found = std::find_if(std::begin(kKeys), std::end(kKeys),
                                   [&](const Key& key) { return key.path == canonical; });
  return found == std::end(kKeys) ? nullptr : found;
}

std::vector<std::string> DeepSpeedKeysIn(std::string_view path) {
  std::vector<std::string> names;
  const auto add = [&](std::string_view key) {
    const std::string_view name = NameWithin(key, path);
    if (!name.empty()) names.emplace_back(name);
  };
  for (const Key& key : kKeys) add(key.path);
  for (const Alias& alias : kAliases) add(alias.name);
  return names;
}

std::vector<std::string> DeepSpeedBlocksWith(std::string_view name) {
  std::vector<std::string> blocks;
  for (const Key& key : kKeys) {
    const size_t dot = key.path.rfind('.');
    if (dot != std::string_view::npos && key.path.substr(dot + 1) == name) {
      blocks.emplace_back(key.path.substr(0, dot));
    }
  }
  return blocks;
}

}  // namespace lathe
