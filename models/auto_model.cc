#include "lathe/models/auto_model.h"

#include <algorithm>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "lathe/models/llama/llama_stage.h"
#include "lathe/models/parallel_layout.h"

namespace lathe {
namespace {

absl::Status CheckBoundaries(const ModelConfig& config, int num_ranks,
                             const std::vector<int>& boundaries) {
  if (boundaries.empty() && num_ranks == 1) return absl::OkStatus();
  const int64_t num_layers = config.num_hidden_layers + 2;
  if (boundaries.size() >= 2 && (boundaries.size() - 1) % num_ranks == 0 &&
      boundaries.front() == 0 && boundaries.back() == num_layers &&
      std::is_sorted(boundaries.begin(), boundaries.end())) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("the boundaries {", absl::StrJoin(boundaries, ", "), "} do not cut ", num_layers,
                   " layers into stages for --pipeline_model_parallel_size ", num_ranks));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Stage>> BuildModel(const ModelConfig& config,
                                                  const ParallelContext& context,
                                                  at::ScalarType dtype, BlockRunner& runner,
                                                  const StageOptions& options) {
  ABSL_RETURN_IF_ERROR(
      CheckLayout(config, {.world_size = context.world_size(),
                           .tensor_model_parallel_size = context.mesh().size("tp"),
                           .pipeline_model_parallel_size = context.mesh().size("pp"),
                           .sequence_parallel = options.sequence_parallel}));
  ABSL_RETURN_IF_ERROR(CheckBoundaries(config, context.mesh().size("pp"), options.boundaries));
  return MakeLlamaStage(config, context, dtype, runner, options);
}

}  // namespace lathe
