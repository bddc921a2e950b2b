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

// The same bytes of the normalized text.
absl::Status NormalizeSpans(const std::string& text, const std::string& normalized,
                            const Tokenizer& tokenizer, std::vector<TextSpan>* spans) {
  for (TextSpan& span : *spans) {
    for (size_t* place : {&span.begin, &span.end}) {
      const std::string before = tokenizer.Normalize(std::string_view(text).substr(0, *place));
      if (!absl::StartsWith(normalized, before)) {
        return absl::FailedPreconditionError(
            absl::StrCat("the characters at byte ", *place,
                         " of the text, where an answer begins or ends, become one by the "
                         "tokenizer's normalizer"));
      }
      *place = before.size();
    }
  }
  return absl::OkStatus();
}

// Labels for the tokens that overlap one of `spans` (in order).
absl::StatusOr<LabelledTokens> LabelSpans(const std::string& text, std::vector<TextSpan> spans,
                                          const Tokenizer& tokenizer) {
  LabelledTokens sample;
  // As transformers does: the template has all special tokens that there are.
  ABSL_ASSIGN_OR_RETURN(sample.ids, tokenizer.Encode(text, /*add_special_tokens=*/false));
  const std::string normalized = tokenizer.Normalize(text);
  if (normalized != text) {
    ABSL_RETURN_IF_ERROR(NormalizeSpans(text, normalized, tokenizer, &spans));
  }
  ABSL_ASSIGN_OR_RETURN(const std::vector<size_t> ends,
                        tokenizer.TokenEnds(normalized, sample.ids));
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
  ABSL_ASSIGN_OR_RETURN(LabelledTokens sample,
                        LabelSpans(text, {{plain.prompt.size(), text.size()}}, tokenizer));
  // No template puts the special tokens here, so the tokenizer's post-processor does.
  ABSL_ASSIGN_OR_RETURN(std::vector<int32_t> ids,
                        tokenizer.Encode(text, /*add_special_tokens=*/true));
  const auto inside = std::search(ids.begin(), ids.end(), sample.ids.begin(), sample.ids.end());
  if (inside == ids.end() && !ids.empty()) {
    return absl::FailedPreconditionError(
        "the tokenizer's special tokens are put between those of the text");
  }
  const size_t num_before = static_cast<size_t>(inside - ids.begin());
  const size_t end = num_before + sample.ids.size();
  sample.labels.insert(sample.labels.begin(), num_before, kIgnoredLabel);
  sample.labels.insert(sample.labels.end(), ids.begin() + static_cast<std::ptrdiff_t>(end),
                       ids.end());
  sample.ids = std::move(ids);
  return sample;
}

bool IsAnswer(const Json& message) { return message.value("role", "") == "assistant"; }

absl::StatusOr<LabelledTokens> LabelMessages(const ChatRow& row, const ChatTemplate& chat,
                                             const Tokenizer& tokenizer) {
  if (row.num_prompt_messages == 0) {
    ABSL_ASSIGN_OR_RETURN(const ChatText text, chat.Render(row.conversation));
    const Json& messages = row.conversation.messages;
    const auto num_answers = std::count_if(messages.begin(), messages.end(), IsAnswer);
    if (num_answers > 0 && text.assistant.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(chat.name(), ": its {% generation %} marks none of the assistant's ",
                       num_answers, " messages; give another with --chat_template"));
    }
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
                                          const ChatTemplate* chat, const Tokenizer& tokenizer) {
  if (mask == LabelMask::kSeed && (row.plain || row.num_prompt_messages > 0)) {
    return absl::InvalidArgumentError(
        "--label_mask seed is for conversations; a row of prompt and completion needs "
        "--label_mask assistant");
  }
  if (row.plain) return LabelPlain(*row.plain, tokenizer);
  if (mask == LabelMask::kSeed) return SeedLabels(tokenizer).Label(row.conversation.messages);
  if (chat == nullptr) {
    return absl::InvalidArgumentError(
        "it has messages, and there is no chat template to make text of them: neither "
        "chat_template.jinja nor a chat_template in tokenizer_config.json is beside the tokenizer; "
        "give one by --chat_template (a file, or a name: seed)");
  }
  return LabelMessages(row, *chat, tokenizer);
}

// The first label that a loss counts: the first token is never predicted. -1 if there is none.
int64_t FirstLabel(const LabelledTokens& sample) {
  for (size_t i = 1; i < sample.labels.size(); ++i) {
    if (sample.labels[i] != kIgnoredLabel) return static_cast<int64_t>(i);
  }
  return -1;
}

}  // namespace

absl::StatusOr<LabelMask> ParseLabelMask(std::string_view word) {
  if (word == "assistant") return LabelMask::kAssistant;
  if (word == "seed") return LabelMask::kSeed;
  return absl::InvalidArgumentError(
      absl::StrCat("--label_mask ", word, " is not known; there are assistant and seed"));
}

absl::StatusOr<LabelledTokens> LabelChat(const ChatRow& row, const LabelOptions& options,
                                         const ChatTemplate* chat, const Tokenizer& tokenizer) {
  ABSL_ASSIGN_OR_RETURN(LabelledTokens sample, LabelWhole(row, options.mask, chat, tokenizer));
  if (options.train_on_prompt) sample.labels = sample.ids;
  const int64_t first = FirstLabel(sample), size = static_cast<int64_t>(sample.ids.size());
  if (first < 0) {
    return absl::InvalidArgumentError(
        "nothing of it is to be learnt: no message is the assistant's, or each is empty");
  }
  if (first >= options.max_length) {
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
