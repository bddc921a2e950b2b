// Weights from a Hugging Face model folder into a stage.
#ifndef LATHE_MODELS_PRETRAINED_H_
#define LATHE_MODELS_PRETRAINED_H_

#include <functional>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "lathe/checkpoint/checkpoint.h"
#include "lathe/models/stage.h"

namespace lathe {

// Fills every parameter of `stage`, which is the whole model, from model.safetensors or its shards
// in `directory`, converting to the stage's dtype; each rank reads only its own boxes. Where the
// files have fewer rows than the vocabulary (config.rows_in_files), the others are their mean. A
// tied head may be in the file (it is read by nobody) or not. Errors: NotFound (no weights; a
// folder with only pickled weights says how to convert them), InvalidArgument naming each missing,
// surplus or wrongly shaped tensor, and what checkpoint/model_files.h refuses.
absl::Status LoadPretrained(const std::string& directory, Stage& stage);

// The same into tensors of the caller's (masters of the stage's weights, say). `elsewhere`: names
// that other pipeline stages read (checkpoint.h, NamesOnAllRanks).
absl::Status LoadPretrained(const std::string& directory, const ModelConfig& config,
                            absl::Span<const NamedTensor> tensors,
                            const std::set<std::string, std::less<>>& elsewhere = {});

}  // namespace lathe

#endif  // LATHE_MODELS_PRETRAINED_H_
