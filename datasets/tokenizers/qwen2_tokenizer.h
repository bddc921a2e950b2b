// transformers' class Qwen2Tokenizer.
//
// For a model of type qwen2, transformers 5 does not open tokenizer.json as it is: it keeps the
// vocabulary, the merges, the added tokens and the post-processor, and puts Qwen2's own normalizer,
// pre-tokenizer and decoder in. For Qwen's tokenizers that changes nothing. For another tokenizer
// beside a Qwen2 model it changes the ids, so we do the same.
#ifndef LATHE_DATASETS_TOKENIZERS_QWEN2_TOKENIZER_H_
#define LATHE_DATASETS_TOKENIZERS_QWEN2_TOKENIZER_H_

#include "nlohmann/json.hpp"

namespace lathe {

// Puts Qwen2Tokenizer's parts into `fields`, those of a tokenizer.json. Returns whether this
// changes how a text is cut or normalized.
bool PutQwen2Parts(bool add_prefix_space, nlohmann::json* fields);

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKENIZERS_QWEN2_TOKENIZER_H_
