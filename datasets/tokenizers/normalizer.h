// The normalizer of tokenizer.json: none, NFC, or a Sequence of these.
//
// Immutable; any thread may call Apply.
#ifndef LATHE_DATASETS_TOKENIZERS_NORMALIZER_H_
#define LATHE_DATASETS_TOKENIZERS_NORMALIZER_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace lathe {

class Normalizer {
 public:
  // `normalizer` may be null. Errors: Unimplemented for another type, by name.
  static absl::StatusOr<Normalizer> FromJson(const nlohmann::json& normalizer);

  // The normalized form of `text`, valid UTF-8 shorter than 1 GiB: a view of `text` itself when
  // nothing changes, otherwise of `*buffer`.
  std::string_view Apply(std::string_view text, std::string* buffer) const;

 private:
  bool nfc_ = false;
};

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKENIZERS_NORMALIZER_H_
