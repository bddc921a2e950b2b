// The post-processor of tokenizer.json: the special tokens that go before and after a text's ids.
//
// Supported: none, ByteLevel (which changes no ids), TemplateProcessing whose `single` has the text
// once, and a Sequence of these. Immutable.
#ifndef LATHE_DATASETS_TOKENIZERS_POST_PROCESSOR_H_
#define LATHE_DATASETS_TOKENIZERS_POST_PROCESSOR_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace lathe {

struct PostProcessor {
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;

  // `processor` may be null; ids must be below `end_id`.
  // Errors: Unimplemented for another type, by name; InvalidArgument for a broken template.
  static absl::StatusOr<PostProcessor> FromJson(const nlohmann::json& processor, int32_t end_id);
};

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKENIZERS_POST_PROCESSOR_H_
