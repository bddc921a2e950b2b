#include "lathe/models/auto_model.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "lathe/models/llama/llama_stage.h"

namespace lathe {
namespace {

absl::Status CheckDivides(const char* field, int64_t value, int degree) {
  if (value % degree == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ", ", value, ", does not divide by --tensor_model_parallel_size ", degree,
                   "; choose a degree that divides it"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Stage>> BuildModel(const ModelConfig& config,
                                                  const ParallelContext& context,
                                                  at::ScalarType dtype, BlockRunner& runner) {
  const int tp = context.mesh().size("tp");
  for (const absl::Status& status :
       {CheckDivides("num_attention_heads", config.num_attention_heads, tp),
        CheckDivides("num_key_value_heads", config.num_key_value_heads, tp),
        CheckDivides("intermediate_size", config.intermediate_size, tp)}) {
    if (!status.ok()) return status;
  }
  if (context.mesh().size("pp") > 1) {
    return absl::UnimplementedError("--pipeline_model_parallel_size above 1 is not implemented");
  }
  return MakeLlamaStage(config, context, dtype, runner);
}

}  // namespace lathe
