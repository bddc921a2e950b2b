// Added tokens: whole strings, special ones among them, that are found in a text before it is cut
// into pieces.
//
// Example:
//   AddedTokens added(vocabulary.num_tokens());
//   ABSL_RETURN_IF_ERROR(added.Add({.content = "<|im_end|>", .special = true}, &vocabulary));
//   added.Build(vocabulary, normalize);
//   while (added.raw().Next(text, covered, &search_from, &match)) ...
//
// Immutable after Build; any thread may then use it.
#ifndef LATHE_DATASETS_TOKENIZERS_ADDED_TOKENS_H_
#define LATHE_DATASETS_TOKENIZERS_ADDED_TOKENS_H_

#include <array>
#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "lathe/datasets/tokenizers/vocabulary.h"

namespace lathe {

// An entry of added_tokens in tokenizer.json, or of added_tokens_decoder in tokenizer_config.json.
struct AddedToken {
  std::string content;
  bool single_word = false;  // not found inside a word
  bool lstrip = false;       // takes the spaces before it
  bool rstrip = false;       // takes the spaces after it
  bool normalized = false;   // looked for after normalization, in its own normalized form
  bool special = false;      // left out by Decode(skip_special_tokens)

  bool operator==(const AddedToken&) const = default;
};

// Finds, in a text, the leftmost and there the longest of a set of tokens.
class AddedTokenFinder {
 public:
  // `flags` are the token's; `pattern` is what is looked for. A pattern that is there already stays
  // as it is.
  void Add(std::string_view pattern, const AddedToken& flags, int32_t id);

  bool empty() const { return tokens_.empty(); }

  struct Match {
    size_t begin;  // bytes of the text, stripped spaces included
    size_t end;
    int32_t id;
  };

  // The first match whose token begins at or after `*search_from`; moves `*search_from` behind the
  // token. The bytes before `covered` belong to the match before and cannot be stripped again.
  // False: there is no match.
  bool Next(std::string_view text, size_t covered, size_t* search_from, Match* match) const;

 private:
  struct Token {
    int32_t id;
    bool single_word, lstrip, rstrip;
  };

  // The end of the longest token that begins at `position`, or 0.
  size_t LongestAt(std::string_view text, size_t position, Token* token) const;

  // A trie: the child of each (node << 8 | byte), and the token that ends at a node (-1: none).
  // Node 0 is the root.
  absl::flat_hash_map<uint64_t, uint32_t> children_;
  std::vector<int> token_at_ = {-1};
  std::vector<Token> tokens_;
  std::array<bool, 256> is_first_{};  // bytes that a token begins with
  std::bitset<65536> is_prefix_;      // first two bytes; one-byte tokens go with any second byte
  int num_first_ = 0;
  char first_ = 0;  // when there is only one
};

class AddedTokens {
 public:
  // `model_vocab_size` is the number of tokens in model.vocab; new ids begin there.
  explicit AddedTokens(int32_t model_vocab_size) : model_vocab_size_(model_vocab_size) {}

  // Adds a token as Hugging Face does, whatever id the file says: one that `vocabulary` has keeps
  // its id, another gets the next free id and is added to `vocabulary`. Adding a content again
  // replaces its flags; an empty content is ignored.
  absl::Status Add(const AddedToken& token, Vocabulary* vocabulary);

  // Whether this very token, flags included, was added; whether one of this content was.
  bool Contains(const AddedToken& token) const;
  bool ContainsContent(std::string_view content) const;

  // Prepares the finders. `normalize` is the tokenizer's normalizer.
  void Build(const Vocabulary& vocabulary,
             absl::FunctionRef<std::string(const std::string&)> normalize);

  // Those to be found in the raw text, and those in the normalized text.
  const AddedTokenFinder& raw() const { return raw_; }
  const AddedTokenFinder& normalized() const { return normalized_; }

  bool IsSpecial(std::string_view content) const { return special_contents_.contains(content); }

 private:
  int32_t model_vocab_size_;
  int32_t max_id_ = -1;
  size_t total_bytes_ = 0;
  std::vector<AddedToken> special_;  // each content once, in the order of adding
  std::vector<AddedToken> others_;
  absl::flat_hash_set<std::string> special_contents_;
  absl::flat_hash_map<std::string, AddedToken> flags_;  // by content, as last added
  AddedTokenFinder raw_;
  AddedTokenFinder normalized_;
};

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKENIZERS_ADDED_TOKENS_H_
