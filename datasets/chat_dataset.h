// ChatDataset: the chats of JSONL files as tokens with labels, one sample for each line.
//
//   ABSL_ASSIGN_OR_RETURN(JsonlSource source, JsonlSource::Open(files, {.text_column = ""}));
//   ABSL_ASSIGN_OR_RETURN(auto chats, ChatDataset::Create(source, {}, &chat, *tokenizer, {}));
//   chats->Get(0).labels    // what the assistant says, else kIgnoredLabel
//
// Immutable: any number of threads may call Get at once.
#ifndef LATHE_DATASETS_CHAT_DATASET_H_
#define LATHE_DATASETS_CHAT_DATASET_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "lathe/datasets/chat_labels.h"
#include "lathe/datasets/chat_templates/chat_template.h"
#include "lathe/datasets/dataset.h"
#include "lathe/datasets/jsonl_source.h"
#include "lathe/datasets/token_store.h"
#include "lathe/datasets/tokenize.h"
#include "lathe/datasets/tokenizers/tokenizer.h"

namespace lathe {

class ChatDataset : public Dataset {
 public:
  // `source`: whole lines. `chat`: null if there is none. Errors: that of the first line, with
  // "FILE:LINE: " before it, which is no JSON, no chat, or of which nothing would be learnt
  // (ReadChatRow, LabelChat).
  static absl::StatusOr<std::shared_ptr<const ChatDataset>> Create(const JsonlSource& source,
                                                                   const LabelOptions& labels,
                                                                   const ChatTemplate* chat,
                                                                   const Tokenizer& tokenizer,
                                                                   const TokenizeOptions& options);

  int64_t size() const override { return store_.num_documents(); }
  Sample Get(int64_t index) const override;

 private:
  explicit ChatDataset(TokenStore store) : store_(std::move(store)) {}

  // Of each sample its ids, then as many labels.
  TokenStore store_;
};

}  // namespace lathe

#endif  // LATHE_DATASETS_CHAT_DATASET_H_
