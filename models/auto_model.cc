#include "lathe/models/auto_model.h"

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "lathe/models/llama/llama_stage.h"
#include "lathe/models/parallel_layout.h"

namespace lathe {

absl::StatusOr<std::unique_ptr<Stage>> BuildModel(const ModelConfig& config,
                                                  const ParallelContext& context,
                                                  at::ScalarType dtype, BlockRunner& runner,
                                                  const StageOptions& options) {
  ABSL_RETURN_IF_ERROR(
      CheckLayout(config, {.world_size = context.world_size(),
                           .tensor_model_parallel_size = context.mesh().size("tp"),
                           .pipeline_model_parallel_size = context.mesh().size("pp"),
                           .sequence_parallel = options.sequence_parallel}));
  if (context.mesh().size("pp") > 1) {
    return absl::UnimplementedError("--pipeline_model_parallel_size above 1 is not implemented");
  }
  return MakeLlamaStage(config, context, dtype, runner, options);
}

}  // namespace lathe
