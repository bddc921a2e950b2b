// TextEncoder: the way of a text to ids. Added tokens in the raw text, normalization, added tokens
// in the normalized text, pre-tokenizer, cache, BPE, post-processor.
//
// Immutable; any number of threads may call Encode, each with its own Workspace.
#ifndef LATHE_DATASETS_TOKENIZERS_TEXT_ENCODER_H_
#define LATHE_DATASETS_TOKENIZERS_TEXT_ENCODER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "lathe/datasets/tokenizers/added_tokens.h"
#include "lathe/datasets/tokenizers/bpe.h"
#include "lathe/datasets/tokenizers/normalizer.h"
#include "lathe/datasets/tokenizers/piece_cache.h"
#include "lathe/datasets/tokenizers/post_processor.h"
#include "lathe/datasets/tokenizers/pre_tokenizer.h"

namespace lathe {

// A growing array of ids that is not initialized, written at its end without a check for each id.
class IdBuffer {
 public:
  // Makes room for `more` ids after those that are there.
  void Reserve(size_t more);

  int32_t* end() { return ids_.get() + size_; }
  void set_end(const int32_t* end) { size_ = end - ids_.get(); }
  void Append(int32_t id);
  absl::Span<const int32_t> ids() const { return {ids_.get(), size_}; }

  // Empties the buffer, and gives the memory of an unusually long text back.
  void Clear();

 private:
  std::unique_ptr<int32_t[]> ids_;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

class TextEncoder {
 public:
  // What one thread works with. The cache serves all texts that go through it.
  struct Workspace {
    IdBuffer ids;
    std::string normalized;
    PreTokenizer::Scratch pre_tokenizer;
    Bpe::Scratch bpe;
    PieceCache cache;
  };

  TextEncoder(AddedTokens added_tokens, Normalizer normalizer, PreTokenizer pre_tokenizer, Bpe bpe,
              PostProcessor post_processor);

  // Leaves the ids of `text` in `workspace->ids`. Errors: see Tokenizer::Encode.
  absl::Status Encode(std::string_view text, bool add_special_tokens, Workspace* workspace) const;

  const AddedTokens& added_tokens() const { return added_tokens_; }
  const Normalizer& normalizer() const { return normalizer_; }

 private:
  absl::Status EncodeNormalized(std::string_view text, Workspace* workspace) const;
  absl::Status EncodeBetweenTokens(std::string_view text, Workspace* workspace) const;
  void EncodePieces(std::string_view text, absl::Span<const Piece> pieces,
                    Workspace* workspace) const;

  AddedTokens added_tokens_;
  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  Bpe bpe_;
  PostProcessor post_processor_;
};

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKENIZERS_TEXT_ENCODER_H_
