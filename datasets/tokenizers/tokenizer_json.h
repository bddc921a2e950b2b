// tokenizer.json as read from disk: the vocabulary and the merges apart, since they are most of the
// file, and every other field as JSON.
#ifndef LATHE_DATASETS_TOKENIZERS_TOKENIZER_JSON_H_
#define LATHE_DATASETS_TOKENIZERS_TOKENIZER_JSON_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace lathe {

struct TokenizerJson {
  nlohmann::json fields;                                    // without model.vocab and model.merges
  std::vector<std::pair<std::string, int32_t>> vocab;       // model.vocab, in the file's order
  std::vector<std::pair<std::string, std::string>> merges;  // model.merges, by rank
};

// Reads `path`: at most 64 MiB. model.vocab must be an object from token to id and model.merges an
// array of "a b" or ["a", "b"]; of any other model type both are left empty. Errors:
// InvalidArgument with file, field and what was found; those of ReadBoundedFile.
absl::StatusOr<TokenizerJson> ReadTokenizerJson(const std::string& path);

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKENIZERS_TOKENIZER_JSON_H_
