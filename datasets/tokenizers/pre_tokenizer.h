// The pre-tokenizer of tokenizer.json: the steps that cut a text into the pieces which BPE then
// encodes.
//
// Supported: ByteLevel alone, or a Sequence of Split (regular expression or string, any behavior,
// inverted or not) and Digits that ends with ByteLevel. Bytes stay bytes here: ByteLevel's mapping
// to visible characters is undone in the vocabulary instead (byte_level.h).
//
// Example:
//   absl::StatusOr<PreTokenizer> pre_tokenizer = PreTokenizer::FromJson(file["pre_tokenizer"]);
//   PreTokenizer::Scratch scratch;
//   auto sink = [&](std::string_view text, absl::Span<const Piece> pieces) { ... };
//   absl::Status status = pre_tokenizer->Run(text, &scratch, sink);
//
// Immutable; any number of threads may call Run, each with its own Scratch.
#ifndef LATHE_DATASETS_TOKENIZERS_PRE_TOKENIZER_H_
#define LATHE_DATASETS_TOKENIZERS_PRE_TOKENIZER_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "lathe/datasets/tokenizers/splitter.h"
#include "nlohmann/json.hpp"

namespace lathe {

class PreTokenizer {
 public:
  // Buffers that Run reuses.
  struct Scratch {
    std::vector<std::vector<Piece>> pieces;  // of each step
    std::vector<std::string> prefixed;       // of each step that prepends a space
  };

  // Receives pieces in the text's order, some hundreds at a time; they index into `text`.
  using Sink = absl::FunctionRef<void(std::string_view text, absl::Span<const Piece> pieces)>;

  // Errors: Unimplemented for a type or a combination that is not supported; InvalidArgument for a
  // field that is missing or of the wrong type. The message names the field.
  static absl::StatusOr<PreTokenizer> FromJson(const nlohmann::json& pre_tokenizer);

  // Cuts `text`, which must be valid UTF-8 shorter than 4 GiB.
  // Errors: ResourceExhausted when a regular expression gives up on this text.
  absl::Status Run(std::string_view text, Scratch* scratch, Sink sink) const;

 private:
  absl::Status AddStep(const nlohmann::json& step, const std::string& field);
  absl::Status RunFrom(size_t step, std::string_view text, Scratch* scratch, Sink sink) const;

  std::vector<std::unique_ptr<Splitter>> steps_;  // null: prepends a space where none stands
  bool has_byte_level_ = false;
};

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKENIZERS_PRE_TOKENIZER_H_
