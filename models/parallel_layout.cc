#include "lathe/models/parallel_layout.h"

#include <string>

#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"

namespace lathe {
namespace {

template <typename... Parts>
absl::Status Wrong(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

// What keeps the model from being split over `tp` ranks; "" if nothing does.
std::string TensorFault(const ModelConfig& config, int64_t tp) {
  const auto does_not_divide = [](const char* name, int64_t value) {
    return absl::StrCat(name, ", ", value, ", does not divide by it");
  };
  if (config.num_attention_heads % tp != 0) {
    return does_not_divide("num_attention_heads", config.num_attention_heads);
  }
  // With fewer KV heads than ranks, several ranks hold the same one.
  if (config.num_key_value_heads % tp != 0 && tp % config.num_key_value_heads != 0) {
    return absl::StrCat("num_key_value_heads, ", config.num_key_value_heads,
                        ", neither divides by it nor divides it");
  }
  if (config.intermediate_size % tp != 0) {
    return does_not_divide("intermediate_size", config.intermediate_size);
  }
  const int64_t rows_per_rank = (config.vocab_size + tp - 1) / tp;
  if ((tp - 1) * rows_per_rank >= config.vocab_size) {
    return absl::StrCat("vocab_size, ", config.vocab_size, ", leaves a rank without a row");
  }
  return "";
}

absl::Status CheckTensorDegree(const ModelConfig& config, int tp) {
  const std::string fault = TensorFault(config, tp);
  if (fault.empty()) return absl::OkStatus();
  std::string possible;
  for (int64_t degree = 1; degree <= config.num_attention_heads; ++degree) {
    if (TensorFault(config, degree).empty()) {
      absl::StrAppend(&possible, possible.empty() ? "" : ", ", degree);
    }
  }
  return Wrong("--tensor_model_parallel_size ", tp, ": the model's ", fault,
               "; possible with this model: ", possible);
}

absl::Status CheckPipeline(const ModelConfig& config, const ParallelLayout& layout) {
  const int pp = layout.pipeline_model_parallel_size;
  const int64_t layers = config.num_hidden_layers;
  if (layers < pp) {
    return Wrong("--pipeline_model_parallel_size ", pp, ": the model's num_hidden_layers is ",
                 layers, ", which leaves a stage without a layer; lower it to ", layers,
                 " or less");
  }
  const int64_t per_piece = layout.num_layers_per_virtual_pipeline_stage;
  if (per_piece == 0) return absl::OkStatus();
  if (pp == 1) {
    return Wrong("--num_layers_per_virtual_pipeline_stage ", per_piece,
                 " needs a --pipeline_model_parallel_size above 1");
  }
  if (layers % (pp * per_piece) != 0) {
    return Wrong("--num_layers_per_virtual_pipeline_stage ", per_piece,
                 " x --pipeline_model_parallel_size ", pp, " is ", pp * per_piece,
                 ", which does not divide the model's num_hidden_layers, ", layers,
                 "; change one of the two");
  }
  if (layout.num_micro_batches % pp != 0) {
    return Wrong("--num_layers_per_virtual_pipeline_stage ", per_piece,
                 " interleaves the stages, which needs a multiple of "
                 "--pipeline_model_parallel_size ",
                 pp, " micro batches; --gradient_accumulation_steps is ", layout.num_micro_batches);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckLayout(const ModelConfig& config, const ParallelLayout& layout) {
  const int tp = layout.tensor_model_parallel_size, pp = layout.pipeline_model_parallel_size;
  ABSL_RETURN_IF_ERROR(CheckTensorDegree(config, tp));
  ABSL_RETURN_IF_ERROR(CheckPipeline(config, layout));
  if (layout.sequence_parallel && layout.seq_len % tp != 0) {
    return Wrong("--sequence_parallel needs a --block_size that divides by ",
                 "--tensor_model_parallel_size ", tp, ", got ", layout.seq_len,
                 "; change one of the two");
  }
  const int64_t ranks = int64_t{tp} * pp;
  if (layout.world_size % ranks != 0) {
    return Wrong("--tensor_model_parallel_size ", tp, " x --pipeline_model_parallel_size ", pp,
                 " is ", ranks, ", but the number of processes is ", layout.world_size,
                 "; start a multiple of ", ranks, " (--nproc_per_node) or lower one of the two");
  }
  return absl::OkStatus();
}

}  // namespace lathe
