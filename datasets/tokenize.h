#ifndef LATHE_DATASETS_TOKENIZE_H_
#define LATHE_DATASETS_TOKENIZE_H_

// Documents → ids, by several threads: the `dataset.map(tokenizer, batched=True)` of Hugging Face's
// scripts.
//
//   auto encode = [&](std::string_view text, std::vector<int32_t>* ids) {
//     return tokenizer->EncodeAppend(text, /*add_special_tokens=*/true, ids);
//   };
//   ABSL_ASSIGN_OR_RETURN(TokenStore tokens, TokenizeDocuments(source, encode, {.num_workers =
//   8}));
//
// The result does not depend on the number of threads.

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lathe/datasets/jsonl_source.h"
#include "lathe/datasets/token_store.h"

namespace lathe {

struct TokenizeOptions {
  int num_workers = 1;
  // Called now and then with how many of how many documents are done, and at the end; by any of the
  // threads, but by one at a time.
  std::function<void(int64_t done, int64_t total)> progress = nullptr;
  // Called before each document, by all threads at once; an error ends the work.
  std::function<absl::Status()> before_document = nullptr;
};

// Appends a document's ids to a vector. Called by all threads at once.
using EncodeFunction =
    absl::FunctionRef<absl::Status(std::string_view text, std::vector<int32_t>* ids)>;

// The ids of all documents of `source`, in its order. Holds them and a few documents for each
// thread, no more. Errors: that of the first document, by its index, which cannot be read or
// encoded; with "FILE:LINE: " before it. What `encode` throws is thrown.
absl::StatusOr<TokenStore> TokenizeDocuments(const JsonlSource& source, EncodeFunction encode,
                                             const TokenizeOptions& options);

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKENIZE_H_
