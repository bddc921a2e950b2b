// bazel run //launchers:pretrain -- --config_name DIR --train_files a.jsonl ...
// Pretrains a causal language model, from scratch or from a model folder. Without arguments: a
// small Qwen2 on Jane Austen.
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>

#include "absl/status/status_macros.h"
#include "absl/status/statusor.h"
#include "lathe/base/beacon.h"
#include "lathe/base/config/flags.h"
#include "lathe/base/logging.h"
#include "lathe/base/runfiles.h"
#include "lathe/comm/launch_environment.h"
#include "lathe/launchers/host_launcher.h"
#include "lathe/launchers/launch_plan.h"
#include "lathe/launchers/local_launcher.h"
#include "lathe/launchers/main_guard.h"
#include "lathe/launchers/memory_plan.h"
#include "lathe/launchers/run_config.pb.h"
#include "lathe/launchers/run_plan.h"
#include "lathe/launchers/run_pretrain.h"
#include "lathe/trainer/stop_request.h"

namespace {

// What `bazel run //launchers:pretrain` alone trains: under two minutes on two cores.
void SetDemonstration(const std::string& argv0, lathe::RunConfig* config) {
  const auto bundled = [&](const char* path) { return lathe::RunfilePath(argv0, path); };
  config->mutable_model()->set_config_name(bundled("lathe/launchers/tiny_qwen2"));
  config->mutable_data()->add_train_files(bundled("lathe/third_party/texts/austen/train.jsonl"));
  config->mutable_data()->add_validation_files(
      bundled("lathe/third_party/texts/austen/validation.jsonl"));
  config->mutable_data()->set_block_size(256);
  lathe::TrainingArguments* training = config->mutable_training();
  training->set_output_dir("pretrain_demo");
  training->set_max_steps(120);
  training->set_per_device_train_batch_size(4);
  training->set_learning_rate(2e-3);
  training->set_lr_scheduler_type("cosine");
  training->set_warmup_steps(10);
  training->set_weight_decay(0.1);
  training->set_logging_steps(10);
  training->set_save_steps(60);
  training->set_save_total_limit(2);
  training->set_do_eval(true);
  training->add_report_to("tensorboard");
}

absl::StatusOr<int> Run(int argc, char** argv) {
  lathe::RunConfig config;
  if (argc == 1) SetDemonstration(argv[0], &config);
  ABSL_ASSIGN_OR_RETURN(
      const lathe::ParsedFlags flags,
      lathe::ParseFlags(argc, argv,
                        {.summary = "Pretrains a causal language model. Without arguments: a small "
                                    "Qwen2 on Jane Austen's novels.",
                         .example = "bazel run //launchers:pretrain -- --config_name qwen-1.5b "
                                    "--train_files text.jsonl --output_dir out"},
                        &config));
  if (!flags.print.empty()) {
    return std::fputs(flags.print.c_str(), stdout) < 0 || std::fflush(stdout) != 0;
  }
  ABSL_ASSIGN_OR_RETURN(const std::optional<lathe::LaunchPlan> plan,
                        lathe::PlanLaunch(config.parallel(), std::getenv));
  if (plan) {
    // Said once, by the launcher, rather than by every rank.
    ABSL_ASSIGN_OR_RETURN(const lathe::RunPlan run, lathe::MakeRunPlan(config, plan->world_size()));
    ABSL_RETURN_IF_ERROR(lathe::CheckMachineMemory(run, plan->world_size()));
    if (config.training().has_memory_limit()) {
      ABSL_RETURN_IF_ERROR(lathe::CheckMemoryLimit(run, lathe::PlanMemory(run, plan->world_size()),
                                                   plan->world_size()));
    }
    return plan->through_ssh ? lathe::LaunchHosts(argv, *plan)
                             : lathe::LaunchLocalRanks(argv, plan->nodes[0],
                                                       config.parallel().hang_timeout_in_seconds());
  }
  ABSL_RETURN_IF_ERROR(lathe::ConnectBeacon());
  ABSL_ASSIGN_OR_RETURN(const lathe::LaunchEnvironment environment,
                        lathe::ReadLaunchEnvironment(std::getenv));
  ABSL_ASSIGN_OR_RETURN(const lathe::LogLevel level,
                        lathe::ParseLogLevel(config.training().log_level()));
  ABSL_ASSIGN_OR_RETURN(const lathe::LogLevel replica,
                        lathe::ParseLogLevel(config.training().log_level_replica()));
  lathe::InitLogging(argv[0], {.level = level, .level_replica = replica, .rank = environment.rank});
  const absl::StatusOr<int> result = lathe::RunPretrain(config, environment);
  if (!absl::IsCancelled(result.status())) return result;
  LOG(WARNING) << result.status().message() << "; the same command does the rest";
  return lathe::kStoppedExitCode;
}

}  // namespace

int main(int argc, char** argv) {
  lathe::GuardedMain([&] { return Run(argc, argv); });
}
