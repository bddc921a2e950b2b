// A conversation as tokens and labels: what is learnt of it and what is only read.
//
//   ABSL_ASSIGN_OR_RETURN(const LabelledTokens sample,
//                         LabelChat(row, {.max_length = 1024}, &chat_template, tokenizer));
//   sample.labels[i]   // ids[i], or kIgnoredLabel
//
// Pure functions; thread-safe.
//
// Source: TRL 1.16's assistant_only_loss and completion_only_loss; the seed chapter's preprocess.
#ifndef LATHE_DATASETS_CHAT_LABELS_H_
#define LATHE_DATASETS_CHAT_LABELS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "lathe/datasets/chat_templates/chat_row.h"
#include "lathe/datasets/chat_templates/chat_template.h"
#include "lathe/datasets/dataset.h"
#include "lathe/datasets/tokenizers/tokenizer.h"

namespace lathe {

enum class LabelMask {
  // What the assistant says and the token that ends its turn. Of a row of prompt and completion:
  // the completion, with all that the template puts behind it. Texts that no template goes over get
  // the special tokens that the tokenizer adds, and the end of text behind them.
  kAssistant,
  // What the chapter's code learns: answers, and of every turn, the system's and the user's too,
  // <|im_start|>, <|im_end|> and the newline after it. The text is ChatML with the usual system
  // message and the role human, tokenised piece by piece; a first message that is not the user's is
  // dropped.
  kSeed,
};

// "assistant" or "seed", --label_mask's words. Errors: InvalidArgument for another.
absl::StatusOr<LabelMask> ParseLabelMask(std::string_view word);

struct LabelOptions {
  LabelMask mask = LabelMask::kAssistant;
  bool train_on_prompt = false;  // learn everything, whatever the mask
  int64_t max_length = 1024;     // tokens; what comes after is cut off
};

struct LabelledTokens {
  std::vector<int32_t> ids, labels;  // of one length
};

// `chat`: null if there is none, for rows that need none. Errors: InvalidArgument when a row does,
// when nothing of the sample is to be learnt (no answer, a template that
// marks none, or the cut left none: then it says how long the sample is; the first token does not
// count, nothing predicts it), or for a role or a kind of row that kSeed does not have; the
// template's and the tokenizer's. The place is the caller's to say.
absl::StatusOr<LabelledTokens> LabelChat(const ChatRow& row, const LabelOptions& options,
                                         const ChatTemplate* chat, const Tokenizer& tokenizer);

}  // namespace lathe

#endif  // LATHE_DATASETS_CHAT_LABELS_H_
