#include "lathe/datasets/chat_dataset.h"

#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/types/span.h"
#include "lathe/base/strict_json.h"
#include "lathe/datasets/chat_templates/chat_row.h"

namespace lathe {

absl::StatusOr<std::shared_ptr<const ChatDataset>> ChatDataset::Create(
    const JsonlSource& source, const LabelOptions& labels, const ChatTemplate* chat,
    const Tokenizer& tokenizer, const TokenizeOptions& options) {
  const auto encode = [&](std::string_view line, std::vector<int32_t>* tokens) -> absl::Status {
    ABSL_ASSIGN_OR_RETURN(const auto json, ParseStrictJson(line, "row"));
    ABSL_ASSIGN_OR_RETURN(const ChatRow row, ReadChatRow(json));
    ABSL_ASSIGN_OR_RETURN(const LabelledTokens sample, LabelChat(row, labels, chat, tokenizer));
    tokens->insert(tokens->end(), sample.ids.begin(), sample.ids.end());
    tokens->insert(tokens->end(), sample.labels.begin(), sample.labels.end());
    return absl::OkStatus();
  };
  ABSL_ASSIGN_OR_RETURN(TokenStore store, TokenizeDocuments(source, encode, options));
  return std::shared_ptr<const ChatDataset>(new ChatDataset(std::move(store)));
}

Sample ChatDataset::Get(int64_t index) const {
  const absl::Span<const int32_t> both = store_.Document(index);
  return {both.first(both.size() / 2), both.last(both.size() / 2)};
}

}  // namespace lathe
