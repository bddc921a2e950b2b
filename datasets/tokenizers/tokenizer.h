// Tokenizer: text ↔ ids, as Hugging Face's tokenizers library gives them.
//
// Reads a Hugging Face directory: tokenizer.json, and where they are there tokenizer_config.json
// and special_tokens_map.json. Supported is byte-level BPE, which GPT-2, Llama-3, Qwen2 and later,
// SmolLM2, StarCoder and DeepSeek use; every other kind is refused by the name of the field. Ids
// are equal to those of tokenizers 0.23.
//
// Beside the config.json of a Qwen2 model, or with tokenizer_class Qwen2Tokenizer, normalizer and
// pre-tokenizer are Qwen2's whatever tokenizer.json says, as in transformers 5; a warning tells
// when that makes a difference.
//
// Example:
//   absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Load("models/qwen2");
//   if (!tokenizer.ok()) return tokenizer.status();
//   bool add_special_tokens = true;
//   absl::StatusOr<std::vector<int32_t>> ids = (*tokenizer)->Encode("Hello", add_special_tokens);
//
// Immutable after Load: any number of threads may use one tokenizer at once.
#ifndef LATHE_DATASETS_TOKENIZERS_TOKENIZER_H_
#define LATHE_DATASETS_TOKENIZERS_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace lathe {

class Tokenizer {
 public:
  // Loads the tokenizer of `directory`.
  // Errors: NotFound when there is no tokenizer.json; Unimplemented for a kind that is not
  // supported; InvalidArgument for a broken file: not JSON, a merge of unknown tokens, an id given
  // twice. Each names the file, the field and what was found in it.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& directory);

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // The ids of `text`. Special tokens written in the text are recognized always; those of the
  // post-processor (a beginning of text, say) are added when `add_special_tokens`. Nothing is
  // truncated or padded, whatever tokenizer.json says, as when transformers calls a tokenizer
  // without asking for it. Errors: InvalidArgument when `text` is not UTF-8, with the offset, or
  // longer than 1 GiB; ResourceExhausted when the tokenizer's regular expression gives up on it.
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text, bool add_special_tokens) const;

  // The same, appended to `ids`; on an error `ids` is as before.
  absl::Status EncodeAppend(std::string_view text, bool add_special_tokens,
                            std::vector<int32_t>* ids) const;

  // The ids of each text, encoded by `num_threads` threads. Errors: as Encode, of the first text
  // that has one.
  absl::StatusOr<std::vector<std::vector<int32_t>>> EncodeBatch(
      absl::Span<const std::string_view> texts, bool add_special_tokens, int num_threads) const;

  // Where each token of `text` ends in it, in bytes, for `ids` that Encode gave of it without
  // adding special tokens: a token begins where the one before ends, but for the whitespace that an
  // added token takes away around it and for bytes that no token has. Of a character that several
  // tokens make up, the ends lie inside it. `text` must be as Normalize gives it. Errors:
  // FailedPrecondition when the tokens do not spell the text.
  absl::StatusOr<std::vector<size_t>> TokenEnds(std::string_view text,
                                                absl::Span<const int32_t> ids) const;

  // What the tokenizer's normalizer (NFC, or none) makes of `text`, valid UTF-8 shorter than 1 GiB.
  std::string Normalize(std::string_view text) const;

  // The text of `ids`, without the special tokens when `skip_special_tokens`. Bytes that are not
  // UTF-8 when joined become U+FFFD; ids that no token has are left out. Spaces are not "cleaned
  // up".
  std::string Decode(absl::Span<const int32_t> ids, bool skip_special_tokens) const;

  // One more than the largest id, added tokens included: the rows that an embedding needs.
  int32_t vocab_size() const;

  // A token as tokenizer.json spells it ("Ġthe" for " the"), added tokens included.
  std::optional<int32_t> TokenToId(std::string_view token) const;
  std::optional<std::string> IdToToken(int32_t id) const;

  // The tokens that the configuration names. When it names no end of text and the vocabulary has
  // "<|endoftext|>", it is that one, as in transformers' classes for GPT-2 and Qwen2.
  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;
  std::optional<int32_t> pad_id() const;

  // The most tokens that the model was made for, if the configuration says so. Longer texts are
  // encoded all the same.
  std::optional<int64_t> model_max_length() const;

 private:
  struct Parts;
  class WorkspaceLease;

  explicit Tokenizer(std::unique_ptr<Parts> parts);

  std::unique_ptr<Parts> parts_;
};

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKENIZERS_TOKENIZER_H_
