// The tokens with a name (end of text, padding, ...) and the tokens beyond tokenizer.json, as
// tokenizer_config.json and special_tokens_map.json give them and transformers' AutoTokenizer reads
// them.
#ifndef LATHE_DATASETS_TOKENIZERS_SPECIAL_TOKENS_H_
#define LATHE_DATASETS_TOKENIZERS_SPECIAL_TOKENS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "lathe/datasets/tokenizers/added_tokens.h"
#include "nlohmann/json.hpp"

namespace lathe {

struct SpecialTokens {
  // Empty: there is none.
  std::string bos_token, eos_token, pad_token, unk_token;

  // added_tokens_decoder, by id, and the named tokens in transformers' order. A named token is only
  // added when no token of its content was.
  std::vector<AddedToken> added_tokens_decoder;
  std::vector<AddedToken> named;

  std::optional<int64_t> model_max_length;  // none: no limit is given

  // Whether transformers opens the directory with its class Qwen2Tokenizer, which takes only
  // vocabulary, merges, added tokens and post-processor from tokenizer.json (qwen2_tokenizer.h).
  bool is_qwen2 = false;
  bool add_prefix_space = false;
};

// Reads the two files of `directory`, and of a model's config.json there the model_type; any of
// them may be missing. Errors: InvalidArgument with file and field.
absl::StatusOr<SpecialTokens> ReadSpecialTokens(const std::string& directory);

// An added token of tokenizer.json or tokenizer_config.json. `path` names it in errors.
absl::StatusOr<AddedToken> ParseAddedToken(const nlohmann::json& token, const std::string& path);

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKENIZERS_SPECIAL_TOKENS_H_
