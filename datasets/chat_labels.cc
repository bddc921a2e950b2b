#include "lathe/datasets/chat_labels.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

// Labels for the tokens that overlap one of `spans` (in order).
absl::StatusOr<LabelledTokens> LabelSpans(const std::string& text,
                                          const std::vector<TextSpan>& spans,
                                          const Tokenizer& tokenizer) {
  LabelledTokens sample;
  // As transformers does: the template has all special tokens that there are.
  ABSL_ASSIGN_OR_RETURN(sample.ids, tokenizer.Encode(text, /*add_special_tokens=*/false));
  ABSL_ASSIGN_OR_RETURN(const std::vector<size_t> ends, tokenizer.TokenEnds(text, sample.ids));
  sample.labels.assign(sample.ids.size(), kIgnoredLabel);
  size_t span = 0, begin = 0;
  for (size_t i = 0; i < ends.size(); ++i) {
    while (span < spans.size() && spans[span].end <= begin) ++span;
    const bool overlaps =
        span < spans.size() && spans[span].begin < spans[span].end && spans[span].begin < ends[i];
    if (overlaps) sample.labels[i] = sample.ids[i];
    begin = ends[i];
  }
  return sample;
}

absl::StatusOr<LabelledTokens> LabelPlain(const PlainCompletion& plain,
                                          const Tokenizer& tokenizer) {
  std::string completion = plain.completion;
  // A completion ends, as TRL's do.
  if (const std::optional<int32_t> eos = tokenizer.eos_id()) {
    const std::string end = tokenizer.Decode({{*eos}}, /*skip_special_tokens=*/false);
    if (!absl::EndsWith(completion, end)) completion += end;
  }
  const std::string text = plain.prompt + completion;
  return LabelSpans(text, {{plain.prompt.size(), text.size()}}, tokenizer);
}

absl::StatusOr<LabelledTokens> LabelMessages(const ChatRow& row, const ChatTemplate& chat,
                                             const Tokenizer& tokenizer) {
  if (row.num_prompt_messages == 0) {
    ABSL_ASSIGN_OR_RETURN(const ChatText text, chat.Render(row.conversation));
    return LabelSpans(text.text, text.assistant, tokenizer);
  }
  ABSL_ASSIGN_OR_RETURN(const std::string text, chat.Text(row.conversation, false));
  Conversation prompt{.messages = Json::array(), .tools = row.conversation.tools};
  const Json& messages = row.conversation.messages;
  prompt.messages.insert(prompt.messages.end(), messages.begin(),
                         messages.begin() + static_cast<std::ptrdiff_t>(row.num_prompt_messages));
  ABSL_ASSIGN_OR_RETURN(const std::string before, chat.Text(prompt, true));
  if (!absl::StartsWith(text, before)) {
    return absl::FailedPreconditionError(
        absl::StrCat(chat.name(),
                     ": the completion does not follow the prompt as "
                     "add_generation_prompt has it: it cannot be told apart"));
  }
  return LabelSpans(text, {{before.size(), text.size()}}, tokenizer);
}

// The chapter's code, with -100 in the place of its pad.
class SeedLabels {
 public:
  explicit SeedLabels(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  absl::StatusOr<LabelledTokens> Label(const Json& messages) {
    ABSL_ASSIGN_OR_RETURN(im_start_, OneToken("<|im_start|>"));
    ABSL_ASSIGN_OR_RETURN(im_end_, OneToken("<|im_end|>"));
    ABSL_ASSIGN_OR_RETURN(newline_, OneToken("\n"));
    const Json system = {{"role", "system"}, {"content", "You are a helpful assistant."}};
    ABSL_RETURN_IF_ERROR(AddTurn(system, "system", /*is_piece=*/true));
    for (size_t i = 0; i < messages.size(); ++i) {
      const std::string role = messages[i].value("role", "");
      if (i == 0 && role != "user") continue;
      if (role != "user" && role != "assistant") {
        return absl::InvalidArgumentError(
            absl::StrCat("message ", i + 1, " is the ", role,
                         "'s; --label_mask seed has only the user and the "
                         "assistant, after a first message that it drops"));
      }
      ABSL_RETURN_IF_ERROR(AddTurn(messages[i], role == "user" ? "human" : role, false));
    }
    return std::move(sample_);
  }

 private:
  absl::StatusOr<int32_t> OneToken(const char* text) const {
    ABSL_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, tokenizer_.Encode(text, true));
    if (ids.size() != 1) {
      return absl::FailedPreconditionError(absl::StrCat(
          "--label_mask seed needs a token for ", text == std::string("\n") ? "the newline" : text,
          ", which this tokenizer splits into ", ids.size()));
    }
    return ids[0];
  }

  // `is_piece`: the role is tokenised apart from <|im_start|>, as the system's is.
  absl::Status AddTurn(const Json& message, const std::string& role, bool is_piece) {
    if (!message["content"].is_string()) return absl::InvalidArgumentError("content is no text");
    std::vector<int32_t> ids;
    if (is_piece) {
      ids.push_back(im_start_);
      ABSL_RETURN_IF_ERROR(tokenizer_.EncodeAppend(role, true, &ids));
    } else {
      ABSL_RETURN_IF_ERROR(tokenizer_.EncodeAppend("<|im_start|>" + role, true, &ids));
    }
    const size_t role_end = ids.size();
    ids.push_back(newline_);
    ABSL_RETURN_IF_ERROR(
        tokenizer_.EncodeAppend(message["content"].get<std::string>(), true, &ids));
    ids.insert(ids.end(), {im_end_, newline_});
    std::vector<int32_t> labels(ids.size(), kIgnoredLabel);
    labels.front() = im_start_;
    if (role == "assistant") {
      std::copy(ids.begin() + static_cast<std::ptrdiff_t>(role_end) + 1, ids.end() - 2,
                labels.begin() + static_cast<std::ptrdiff_t>(role_end) + 1);
    }
    labels[labels.size() - 2] = im_end_;
    labels.back() = newline_;
    sample_.ids.insert(sample_.ids.end(), ids.begin(), ids.end());
    sample_.labels.insert(sample_.labels.end(), labels.begin(), labels.end());
    return absl::OkStatus();
  }

  const Tokenizer& tokenizer_;
  int32_t im_start_ = 0, im_end_ = 0, newline_ = 0;
  LabelledTokens sample_;
};

absl::StatusOr<LabelledTokens> LabelWhole(const ChatRow& row, LabelMask mask,
                                          const ChatTemplate& chat, const Tokenizer& tokenizer) {
  if (row.plain) return LabelPlain(*row.plain, tokenizer);
  if (mask == LabelMask::kSeed) return SeedLabels(tokenizer).Label(row.conversation.messages);
  return LabelMessages(row, chat, tokenizer);
}

int64_t FirstLabel(const LabelledTokens& sample) {
  const auto found = std::find_if(sample.labels.begin(), sample.labels.end(),
                                  [](int32_t label) { return label != kIgnoredLabel; });
  return found == sample.labels.end() ? -1 : found - sample.labels.begin();
}

}  // namespace

absl::StatusOr<LabelMask> ParseLabelMask(std::string_view word) {
  if (word == "assistant") return LabelMask::kAssistant;
  if (word == "seed") return LabelMask::kSeed;
  return absl::InvalidArgumentError(
      absl::StrCat("--label_mask ", word, " is not known; there are assistant and seed"));
}

absl::StatusOr<LabelledTokens> LabelChat(const ChatRow& row, const LabelOptions& options,
                                         const ChatTemplate& chat, const Tokenizer& tokenizer) {
  ABSL_ASSIGN_OR_RETURN(LabelledTokens sample, LabelWhole(row, options.mask, chat, tokenizer));
  if (options.train_on_prompt) sample.labels = sample.ids;
  const int64_t first = FirstLabel(sample), size = static_cast<int64_t>(sample.ids.size());
  if (first < 0) {
    return absl::InvalidArgumentError(
        "nothing of it is to be learnt: no message is the assistant's, or each is empty");
  }
  // The first token is never predicted.
  if (std::max<int64_t>(first, 1) >= options.max_length) {
    return absl::InvalidArgumentError(
        absl::StrCat("it has ", size, " tokens, and what is to be learnt begins at token ",
                     first + 1, ", which --max_length ", options.max_length, " cuts off"));
  }
  if (size > options.max_length) {
    sample.ids.resize(static_cast<size_t>(options.max_length));
    sample.labels.resize(static_cast<size_t>(options.max_length));
  }
  return sample;
}

}  // namespace lathe
