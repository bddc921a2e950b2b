#include "lathe/models/pretrained.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status_macros.h"
#include "lathe/checkpoint/checkpoint.h"
#include "lathe/checkpoint/model_files.h"
#include "lathe/layers/parameter.h"
#include "lathe/layers/precision.h"

namespace lathe {

namespace {

bool IsVocabularyTable(std::string_view name) {
  return name == "model.embed_tokens.weight" || name == "lm_head.weight";
}

// The part of a piece within rows [begin, end) of the logical tensor; no rows: a piece of none.
TensorPiece Rows(const TensorPiece& piece, int64_t begin, int64_t end) {
  const int64_t offset = piece.box.offset[0], length = piece.box.length[0];
  const int64_t first = std::clamp(begin, offset, offset + length);
  const int64_t last = std::clamp(end, first, offset + length);
  TensorPiece part{piece.box, piece.local.narrow(0, first - offset, last - first)};
  part.box.offset[0] = first;
  part.box.length[0] = last - first;
  return part;
}

// The tensor as the files have it, with `rows` rows.
NamedTensor FirstRows(const NamedTensor& tensor, int64_t rows) {
  NamedTensor first = tensor;
  first.full_shape[0] = rows;
  first.pieces.clear();
  for (const TensorPiece& piece : tensor.pieces) {
    TensorPiece part = Rows(piece, 0, rows);
    if (part.box.length[0] > 0) first.pieces.push_back(std::move(part));
  }
  return first;
}

absl::Status FillNewRows(const ModelFiles& files, int64_t rows, const NamedTensor& tensor) {
  ABSL_ASSIGN_OR_RETURN(const at::Tensor table, files.View(tensor.name));
  const at::Tensor mean = table.mean(0, /*keepdim=*/false, UpcastType(table.scalar_type()));
  for (const TensorPiece& piece : tensor.pieces) {
    const TensorPiece part = Rows(piece, rows, tensor.full_shape[0]);
    if (part.box.length[0] == 0) continue;
    part.local.copy_(
        mean.narrow(0, part.box.offset[1], part.box.length[1]).expand(part.local.sizes()));
  }
  return absl::OkStatus();
}

}  // namespace

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
  if (config.rows_in_files == 0) return LoadTensors(files, tensors, options);
  std::vector<NamedTensor> in_files(tensors.begin(), tensors.end());
  for (NamedTensor& tensor : in_files) {
    if (IsVocabularyTable(tensor.name)) tensor = FirstRows(tensor, config.rows_in_files);
  }
  ABSL_RETURN_IF_ERROR(LoadTensors(files, in_files, options));
  for (const NamedTensor& tensor : tensors) {
    if (!IsVocabularyTable(tensor.name)) continue;
    ABSL_RETURN_IF_ERROR(FillNewRows(files, config.rows_in_files, tensor));
  }
  return absl::OkStatus();
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
