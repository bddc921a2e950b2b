#include "lathe/datasets/chat_templates/chat_template.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <utility>

#include "absl/status/status_macros.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "lathe/base/read_file.h"
#include "lathe/base/strict_json.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

// The chapter's: a turn is <|im_start|>ROLE\nTEXT<|im_end|>\n, the user's role is human, and a
// conversation without a system message has the usual one.
constexpr char kSeed[] =
    "{% if not messages or messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}"
    "<|im_start|>{{ 'human' if message['role'] == 'user' else message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ message['content'] }}<|im_end|>{% endif %}{{ '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

constexpr char kCannotBeTold[] =
    ", so what the assistant says cannot be told; give --chat_template a copy of the template with "
    "{% generation %} and {% endgeneration %} around it";

const std::map<std::string, const char*>& NamedTemplates() {
  static const auto& names = *new std::map<std::string, const char*>{{"seed", kSeed}};
  return names;
}

// null if there is no such file.
absl::StatusOr<Json> ReadConfig(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (absl::IsNotFound(text.status())) return Json(nullptr);
  ABSL_RETURN_IF_ERROR(text.status());
  ABSL_ASSIGN_OR_RETURN(Json json, ParseStrictJson(*text, path));
  if (!json.is_object()) return absl::InvalidArgumentError(path + ": expected a JSON object");
  return json;
}

// None if there is no such file.
absl::StatusOr<std::optional<JinjaTemplate>> ParseFile(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (absl::IsNotFound(text.status())) return std::nullopt;
  ABSL_RETURN_IF_ERROR(text.status());
  ABSL_ASSIGN_OR_RETURN(JinjaTemplate parsed, JinjaTemplate::Parse(*text, path));
  return std::optional<JinjaTemplate>(std::move(parsed));
}

// The templates of tokenizer_config.json by name.
absl::StatusOr<std::map<std::string, std::string>> TemplatesOf(const Json& config,
                                                               const std::string& path) {
  std::map<std::string, std::string> templates;
  if (!config.is_object() || !config.contains("chat_template")) return templates;
  const Json& found = config["chat_template"];
  if (found.is_string()) {
    templates["default"] = found.get<std::string>();
  } else if (found.is_array()) {
    for (const Json& one : found) {
      if (!one.is_object() || !one.contains("name") || !one["name"].is_string() ||
          !one.contains("template") || !one["template"].is_string()) {
        return absl::InvalidArgumentError(
            absl::StrCat(path, ": chat_template: expected objects with name and template"));
      }
      templates[one["name"]] = one["template"];
    }
  } else if (!found.is_null()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": chat_template: expected a text or a list of named ones"));
  }
  return templates;
}

}  // namespace

ChatTemplate::ChatTemplate(std::string name, JinjaTemplate standard)
    : name_(std::move(name)), standard_(std::move(standard)) {}

absl::StatusOr<ChatTemplate> ChatTemplate::Load(const std::string& directory) {
  const std::string file = directory + "/chat_template.jinja";
  ABSL_ASSIGN_OR_RETURN(std::optional<JinjaTemplate> own, ParseFile(file));
  if (own) {
    ChatTemplate chat(file, *std::move(own));
    ABSL_ASSIGN_OR_RETURN(chat.with_tools_,
                          ParseFile(directory + "/additional_chat_templates/tool_use.jinja"));
    ABSL_RETURN_IF_ERROR(chat.AddSpecialTokens(directory));
    return chat;
  }
  const std::string config_file = directory + "/tokenizer_config.json";
  ABSL_ASSIGN_OR_RETURN(const Json config, ReadConfig(config_file));
  ABSL_ASSIGN_OR_RETURN(auto templates, TemplatesOf(config, config_file));
  if (!templates.contains("default")) {
    return absl::NotFoundError(absl::StrCat(
        directory, ": no chat_template.jinja, and no chat_template in tokenizer_config.json",
        templates.empty() ? "" : " is called default",
        "; give one with --chat_template (a file, or a name: ",
        absl::StrJoin(NamedTemplates(), ", ",
                      [](std::string* out, const auto& named) { *out += named.first; }),
        ")"));
  }
  const std::string name = config_file + ": chat_template";
  ABSL_ASSIGN_OR_RETURN(JinjaTemplate parsed, JinjaTemplate::Parse(templates["default"], name));
  ChatTemplate chat(name, std::move(parsed));
  if (templates.contains("tool_use")) {
    ABSL_ASSIGN_OR_RETURN(chat.with_tools_,
                          JinjaTemplate::Parse(templates["tool_use"], name + " tool_use"));
  }
  ABSL_RETURN_IF_ERROR(chat.AddSpecialTokens(directory));
  return chat;
}

absl::StatusOr<ChatTemplate> ChatTemplate::LoadNamed(const std::string& name_or_file,
                                                     const std::string& directory) {
  std::string source;
  if (const auto named = NamedTemplates().find(name_or_file); named != NamedTemplates().end()) {
    source = named->second;
  } else {
    const absl::StatusOr<std::string> text = ReadFile(name_or_file);
    if (!text.ok()) {
      return absl::Status(
          text.status().code(),
          absl::StrCat("--chat_template ", text.status().message(), "; give a file, or a name: ",
                       absl::StrJoin(NamedTemplates(), ", ",
                                     [](std::string* out, const auto& n) { *out += n.first; })));
    }
    source = *text;
  }
  const std::string name = "--chat_template " + name_or_file;
  ABSL_ASSIGN_OR_RETURN(JinjaTemplate parsed, JinjaTemplate::Parse(source, name));
  ChatTemplate chat(name, std::move(parsed));
  ABSL_RETURN_IF_ERROR(chat.AddSpecialTokens(directory));
  return chat;
}

// transformers passes each token that is set, as its text.
absl::Status ChatTemplate::AddSpecialTokens(const std::string& directory) {
  const std::string path = directory + "/tokenizer_config.json";
  ABSL_ASSIGN_OR_RETURN(const Json config, ReadConfig(path));
  if (config.is_null()) return absl::OkStatus();
  for (const char* name : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
                           "cls_token", "mask_token"}) {
    if (!config.contains(name) || config[name].is_null()) continue;
    const Json& token = config[name];
    const bool is_object = token.is_object() && token.contains("content");
    const Json& content = is_object ? token["content"] : token;
    if (!content.is_string()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": ", name, ": expected a token"));
    }
    special_tokens_[name] = content;
  }
  return absl::OkStatus();
}

absl::StatusOr<RenderedTemplate> ChatTemplate::RenderAll(const Conversation& conversation,
                                                         bool add_generation_prompt) const {
  Json variables = special_tokens_;
  variables["messages"] = conversation.messages;
  variables["tools"] = conversation.tools;
  variables["documents"] = nullptr;
  variables["add_generation_prompt"] = add_generation_prompt;
  const bool has_tools = conversation.tools.is_array();
  return (has_tools && with_tools_ ? *with_tools_ : standard_).Render(variables);
}

absl::StatusOr<std::string> ChatTemplate::Text(const Conversation& conversation,
                                               bool add_generation_prompt) const {
  ABSL_ASSIGN_OR_RETURN(RenderedTemplate rendered, RenderAll(conversation, add_generation_prompt));
  return std::move(rendered.text);
}

absl::StatusOr<TextSpan> ChatTemplate::AddedByAnswer(const Conversation& conversation, size_t index,
                                                     std::string_view whole) const {
  Conversation part{.messages = Json::array(), .tools = conversation.tools};
  part.messages.insert(part.messages.end(), conversation.messages.begin(),
                       conversation.messages.begin() + static_cast<std::ptrdiff_t>(index));
  ABSL_ASSIGN_OR_RETURN(const std::string before, Text(part, /*add_generation_prompt=*/true));
  part.messages.push_back(conversation.messages[index]);
  ABSL_ASSIGN_OR_RETURN(const std::string with, Text(part, /*add_generation_prompt=*/false));
  if (!absl::StartsWith(with, before)) {
    return absl::FailedPreconditionError(absl::StrCat(
        name_, ": message ", index + 1, " does not begin as add_generation_prompt begins an ",
        "answer", kCannotBeTold));
  }
  const std::string_view text = absl::StripTrailingAsciiWhitespace(with);
  if (!absl::StartsWith(whole, text)) {
    return absl::FailedPreconditionError(absl::StrCat(
        name_, ": message ", index + 1, " is shown otherwise once others follow", kCannotBeTold));
  }
  return TextSpan{before.size(), std::max(before.size(), text.size())};
}

absl::StatusOr<bool> ChatTemplate::AnswersEnd() const {
  constexpr char kSaid[] = "dummy";
  Json messages = {{{"role", "user"}, {"content", kSaid}},
                   {{"role", "assistant"}, {"content", kSaid}}};
  // Some templates end an answer only when another message follows.
  if (standard_.marks_generations()) messages.push_back({{"role", "user"}, {"content", kSaid}});
  ABSL_ASSIGN_OR_RETURN(const ChatText chat, Render({.messages = messages}));
  if (chat.assistant.empty()) return false;
  const TextSpan span = chat.assistant.back();
  const std::string_view said =
      std::string_view(chat.text).substr(span.begin, span.end - span.begin);
  return !absl::EndsWith(absl::StripTrailingAsciiWhitespace(said), kSaid);
}

absl::StatusOr<ChatText> ChatTemplate::Render(const Conversation& conversation) const {
  ABSL_ASSIGN_OR_RETURN(RenderedTemplate rendered,
                        RenderAll(conversation, /*add_generation_prompt=*/false));
  ChatText chat{.text = std::move(rendered.text), .assistant = std::move(rendered.generations)};
  const bool uses_tools = conversation.tools.is_array() && with_tools_;
  if ((uses_tools ? *with_tools_ : standard_).marks_generations()) return chat;
  for (size_t i = 0; i < conversation.messages.size(); ++i) {
    if (conversation.messages[i].value("role", "") != "assistant") continue;
    ABSL_ASSIGN_OR_RETURN(const TextSpan span, AddedByAnswer(conversation, i, chat.text));
    chat.assistant.push_back(span);
  }
  return chat;
}

}  // namespace lathe
