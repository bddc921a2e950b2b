// BuildModel: from a configuration to this rank's stage, whatever the family.
#ifndef LATHE_MODELS_AUTO_MODEL_H_
#define LATHE_MODELS_AUTO_MODEL_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/layers/block_runner.h"
#include "lathe/models/stage.h"

namespace lathe {

// The stage that `context` assigns to this rank, parameters not yet filled: call
// Parameter::Initialize or LoadPretrained. `context` and `runner` must outlive it. Errors:
// InvalidArgument as CheckLayout (parallel_layout.h) says it, or boundaries that do not fit the
// model and the ranks along "pp".
absl::StatusOr<std::unique_ptr<Stage>> BuildModel(const ModelConfig& config,
                                                  const ParallelContext& context,
                                                  at::ScalarType dtype, BlockRunner& runner,
                                                  const StageOptions& options = {});

}  // namespace lathe

#endif  // LATHE_MODELS_AUTO_MODEL_H_
