// bazel run //launchers:plan -- <the flags of //launchers:pretrain>
// Prints how much memory each rank of that run would take, and starts nothing.
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "absl/status/status_macros.h"
#include "absl/status/statusor.h"
#include "lathe/base/config/flags.h"
#include "lathe/comm/launch_environment.h"
#include "lathe/launchers/launch_plan.h"
#include "lathe/launchers/main_guard.h"
#include "lathe/launchers/memory_plan.h"
#include "lathe/launchers/pretraining.h"
#include "lathe/launchers/run_config.pb.h"
#include "lathe/launchers/run_plan.h"

namespace {

absl::StatusOr<int> Run(int argc, char** argv) {
  lathe::Pretraining task({});
  ABSL_ASSIGN_OR_RETURN(
      const lathe::ParsedFlags flags,
      lathe::ParseFlags(argc, argv,
                        {.summary = "Prints how much memory each rank of a pretraining would take, "
                                    "and starts nothing. With --memory_limit: whether that fits, "
                                    "or what to change.",
                         .example = "bazel run //launchers:plan -- --config_name qwen-1.5b "
                                    "--train_files text.jsonl --output_dir out --block_size 2048 "
                                    "--nproc_per_node 4 --memory_limit 24GB"},
                        &task.mutable_flags()));

  if (!flags.print.empty()) {
    return std::fputs(flags.print.c_str(), stdout) < 0 || std::fflush(stdout) != 0;
  }
  const lathe::RunConfig config = task.Run();
  ABSL_ASSIGN_OR_RETURN(const lathe::TaskShape shape, task.Shape());
  ABSL_ASSIGN_OR_RETURN(const std::optional<lathe::LaunchPlan> launch,
                        lathe::PlanLaunch(config.parallel(), std::getenv));
  int world_size = 1;
  if (launch) {
    world_size = launch->world_size();
  } else {
    ABSL_ASSIGN_OR_RETURN(const lathe::LaunchEnvironment environment,
                          lathe::ReadLaunchEnvironment(std::getenv));
    world_size = environment.world_size;
  }
  ABSL_ASSIGN_OR_RETURN(const lathe::RunPlan run, lathe::MakeRunPlan(config, shape, world_size));
  ABSL_ASSIGN_OR_RETURN(const lathe::MemoryPlan memory, lathe::PlanMemory(run, world_size));
  std::printf("%s", memory.Table().c_str());
  std::fflush(stdout);
  ABSL_RETURN_IF_ERROR(lathe::CheckMemoryLimit(run, memory, world_size));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  lathe::GuardedMain([&] { return Run(argc, argv); });
}
