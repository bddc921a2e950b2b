// ChatTemplate: conversations as the text that a model was made for, and which bytes of it the
// assistant says.
//
//   ABSL_ASSIGN_OR_RETURN(const ChatTemplate chat, ChatTemplate::Load("models/smollm2"));
//   ABSL_ASSIGN_OR_RETURN(const ChatText text, chat.Render({.messages = {
//       {{"role", "user"}, {"content", "Hi"}}, {{"role", "assistant"}, {"content", "Hello"}}}}));
//   text.assistant   // [{begin, end}]: "Hello<|im_end|>"
//
// Immutable after Load: any number of threads may render at once.
//
// Source: transformers 5.17 tokenization_utils_base.apply_chat_template.
#ifndef LATHE_DATASETS_CHAT_TEMPLATES_CHAT_TEMPLATE_H_
#define LATHE_DATASETS_CHAT_TEMPLATES_CHAT_TEMPLATE_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lathe/datasets/chat_templates/jinja_template.h"
#include "nlohmann/json.hpp"

namespace lathe {

// As transformers takes them: an array of {"role", "content", ...}, and functions' JSON schemas.
// Keys keep their order, which a template may print.
struct Conversation {
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  nlohmann::ordered_json tools = nullptr;  // an array, or null
};

struct ChatText {
  std::string text;
  // What the assistant says, with the token that ends a turn and without the whitespace after it.
  std::vector<TextSpan> assistant;
};

class ChatTemplate {
 public:
  // The model's own: chat_template.jinja of `directory` (and, for conversations with tools,
  // additional_chat_templates/tool_use.jinja), else chat_template of its tokenizer_config.json, a
  // text or a list of named ones ("default", and "tool_use"). Errors: NotFound if there is none;
  // JinjaTemplate::Parse's.
  static absl::StatusOr<ChatTemplate> Load(const std::string& directory);

  // --chat_template: a name ("seed": ChatML whose user is called human) or a file with a template.
  // The special tokens are those of `directory`. Errors: NotFound; JinjaTemplate::Parse's.
  static absl::StatusOr<ChatTemplate> LoadNamed(const std::string& name_or_file,
                                                const std::string& directory);

  // The text as transformers gives it, with the beginning of an answer if `add_generation_prompt`.
  // Errors: JinjaTemplate::Render's.
  absl::StatusOr<std::string> Text(const Conversation& conversation,
                                   bool add_generation_prompt) const;

  // The text of a whole conversation and where the assistant speaks in it: what {% generation %}
  // marks; of a template without that, for each answer, what it adds to the messages before it and
  // the beginning of an answer. Errors: as Text; FailedPrecondition when that cannot be told: an
  // answer is shown otherwise once others follow (as templates do that drop earlier reasoning), or
  // not begun as add_generation_prompt begins it.
  absl::StatusOr<ChatText> Render(const Conversation& conversation) const;

  // Whether an answer has an end of its own, after which a model can stop: false where the template
  // leaves that to the next message (GLM's does), true where anything but whitespace comes after
  // the content. Errors: as Render.
  absl::StatusOr<bool> AnswersEnd() const;

  // What messages call it: the file, or the name.
  const std::string& name() const { return name_; }

 private:
  ChatTemplate(std::string name, JinjaTemplate standard);

  absl::Status AddSpecialTokens(const std::string& directory);
  absl::StatusOr<RenderedTemplate> RenderAll(const Conversation& conversation,
                                             bool add_generation_prompt) const;
  absl::StatusOr<TextSpan> AddedByAnswer(const Conversation& conversation, size_t index,
                                         std::string_view whole) const;

  std::string name_;
  JinjaTemplate standard_;
  std::optional<JinjaTemplate> with_tools_;
  nlohmann::ordered_json special_tokens_ = nlohmann::ordered_json::object();
};

}  // namespace lathe

#endif  // LATHE_DATASETS_CHAT_TEMPLATES_CHAT_TEMPLATE_H_
