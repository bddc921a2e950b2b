#ifndef LATHE_DATASETS_TOKEN_STORE_H_
#define LATHE_DATASETS_TOKEN_STORE_H_

// TokenStore: the ids of all documents, one behind the other, and where each document ends. Four
// bytes a token and eight a document; growing it needs no second copy (see token_store.cc).
//
//   TokenStore store;
//   store.Append(ids);            // one document
//   store.Document(0);            // its ids
//   store.Tokens(0, 2);           // those of documents 0 and 1, joined
//
// One thread may append; any number may read when none does. Spans die with the next Append.

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "absl/types/span.h"

namespace lathe {

class TokenStore {
 public:
  TokenStore() = default;
  TokenStore(TokenStore&& other) noexcept;
  TokenStore& operator=(TokenStore&& other) noexcept;

  // Adds one document, which may be empty.
  void Append(absl::Span<const int32_t> ids) { AppendDocuments(ids, {int64_t(ids.size())}); }

  // Adds documents of these lengths, whose ids stand one behind the other in `ids`.
  void AppendDocuments(absl::Span<const int32_t> ids, absl::Span<const int64_t> lengths);

  int64_t num_documents() const { return static_cast<int64_t>(ends_.size()); }
  int64_t num_tokens() const { return size_; }

  // The index of the first token of document `document` of [0, num_documents()]; for the last of
  // these, the number of tokens.
  int64_t TokenIndex(int64_t document) const { return document == 0 ? 0 : ends_[document - 1]; }

  absl::Span<const int32_t> Document(int64_t document) const {
    return Tokens(document, document + 1);
  }

  // The joined ids of documents [first, last).
  absl::Span<const int32_t> Tokens(int64_t first, int64_t last) const {
    const int64_t begin = TokenIndex(first);
    return {ids_.get() + begin, static_cast<size_t>(TokenIndex(last) - begin)};
  }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };

  std::unique_ptr<int32_t[], Free> ids_;
  int64_t size_ = 0;
  int64_t capacity_ = 0;
  std::vector<int64_t> ends_;
};

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKEN_STORE_H_
