#include "lathe/launchers/task_main.h"

#include <cstdio>
#include <cstdlib>
#include <optional>

#include "absl/status/status_macros.h"
#include "absl/status/statusor.h"
#include "lathe/base/beacon.h"
#include "lathe/base/logging.h"
#include "lathe/comm/launch_environment.h"
#include "lathe/launchers/host_launcher.h"
#include "lathe/launchers/launch_plan.h"
#include "lathe/launchers/local_launcher.h"
#include "lathe/launchers/main_guard.h"
#include "lathe/launchers/memory_plan.h"
#include "lathe/launchers/run_plan.h"
#include "lathe/launchers/run_training.h"
#include "lathe/trainer/stop_request.h"

namespace lathe {
namespace {

absl::StatusOr<int> Launch(char** argv, const TrainingTask& task, const LaunchPlan& plan) {
  // Said once, by the launcher, rather than by every rank.
  const RunConfig config = task.Run();
  ABSL_ASSIGN_OR_RETURN(const TaskShape shape, task.Shape());
  ABSL_ASSIGN_OR_RETURN(const RunPlan run, MakeRunPlan(config, shape, plan.world_size()));
  ABSL_RETURN_IF_ERROR(CheckMachineMemory(run, plan.world_size()));
  if (config.training().has_memory_limit()) {
    ABSL_RETURN_IF_ERROR(
        CheckMemoryLimit(run, PlanMemory(run, plan.world_size()), plan.world_size()));
  }
  return plan.through_ssh
             ? LaunchHosts(argv, plan)
             : LaunchLocalRanks(argv, plan.nodes[0], config.parallel().hang_timeout_in_seconds());
}

absl::StatusOr<int> Run(int argc, char** argv, const FlagsOptions& options, TrainingTask& task) {
  ABSL_ASSIGN_OR_RETURN(const ParsedFlags flags,
                        ParseFlags(argc, argv, options, &task.mutable_flags()));
  if (!flags.print.empty()) {
    return std::fputs(flags.print.c_str(), stdout) < 0 || std::fflush(stdout) != 0;
  }
  const RunConfig config = task.Run();
  const TrainingArguments& training = config.training();
  ABSL_ASSIGN_OR_RETURN(const std::optional<LaunchPlan> plan,
                        PlanLaunch(config.parallel(), std::getenv));
  if (plan) return Launch(argv, task, *plan);
  ABSL_RETURN_IF_ERROR(ConnectBeacon());
  ABSL_ASSIGN_OR_RETURN(const LaunchEnvironment environment, ReadLaunchEnvironment(std::getenv));
  ABSL_ASSIGN_OR_RETURN(const LogLevel level, ParseLogLevel(training.log_level()));
  ABSL_ASSIGN_OR_RETURN(const LogLevel replica, ParseLogLevel(training.log_level_replica()));
  InitLogging(argv[0], {.level = level, .level_replica = replica, .rank = environment.rank});
  const absl::StatusOr<int> result = RunTraining(task, environment);
  if (!absl::IsCancelled(result.status())) return result;
  LOG(WARNING) << result.status().message() << "; the same command does the rest";
  return kStoppedExitCode;
}

}  // namespace

void TaskMain(int argc, char** argv, const FlagsOptions& options, TrainingTask& task) {
  GuardedMain([&] { return Run(argc, argv, options, task); });
}

}  // namespace lathe
