#include "lathe/models/pretrained.h"

#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status_macros.h"
#include "lathe/checkpoint/checkpoint.h"
#include "lathe/checkpoint/model_files.h"
#include "lathe/layers/parameter.h"

namespace lathe {

absl::Status LoadPretrained(const std::string& directory, const ModelConfig& config,
                            absl::Span<const NamedTensor> tensors,
                            const std::set<std::string, std::less<>>& elsewhere) {
  ABSL_ASSIGN_OR_RETURN(const ModelFiles files, ModelFiles::Open(directory));
  LoadOptions options;
  options.surplus_ok = [&](std::string_view name) {
    // Written by some tools beside the embedding that it is tied to; rotary tables by very old
    // ones.
    return (name == "lm_head.weight" && config.tie_word_embeddings) ||
           name.ends_with(".rotary_emb.inv_freq") || elsewhere.contains(name);
  };
  return LoadTensors(files, tensors, options);
}

absl::Status LoadPretrained(const std::string& directory, Stage& stage) {
  std::vector<NamedTensor> wanted;
  for (const Parameter* parameter : stage.parameters()) {
    NamedTensor tensor{
        .name = parameter->name(), .full_shape = parameter->full_shape(), .pieces = {}};
    for (LogicalPiece& piece : LogicalPieces(*parameter, parameter->tensor().detach())) {
      tensor.pieces.push_back({std::move(piece.logical), std::move(piece.view)});
    }
    wanted.push_back(std::move(tensor));
  }
  return LoadPretrained(directory, stage.config(), wanted);
}

}  // namespace lathe
