// Vocabulary: tokens as tokenizer.json spells them ↔ ids.
//
// Example:
//   Vocabulary vocabulary;
//   ABSL_RETURN_IF_ERROR(vocabulary.Add("hello", 5));
//   vocabulary.Find("hello");  // 5
//
// Not changed after a tokenizer is loaded; const functions may be called from any thread.
#ifndef LATHE_DATASETS_TOKENIZERS_VOCABULARY_H_
#define LATHE_DATASETS_TOKENIZERS_VOCABULARY_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/node_hash_map.h"
#include "absl/status/status.h"

namespace lathe {

class Vocabulary {
 public:
  void Reserve(size_t num_tokens);

  // Errors: InvalidArgument when the token is there already or the id is taken; the message names
  // both.
  absl::Status Add(std::string token, int32_t id);

  // The token's id, or -1.
  int32_t Find(std::string_view token) const;

  // The token with this id, or nullptr.
  const std::string* Token(int32_t id) const;

  // One more than the largest id. Ids may have holes.
  int32_t end_id() const { return static_cast<int32_t>(token_of_.size()); }

  int32_t num_tokens() const { return static_cast<int32_t>(id_of_.size()); }

 private:
  absl::node_hash_map<std::string, int32_t> id_of_;
  std::vector<const std::string*> token_of_;  // keys of id_of_; null in holes
};

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKENIZERS_VOCABULARY_H_
