// Which template a model's folder has, and where the assistant speaks.
#include "lathe/datasets/chat_templates/chat_template.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kChatMl[] =
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' "
    "}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

class ChatTemplateTest : public testing::Test {
 protected:
  ChatTemplateTest() {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name) << text;
  }
  void WriteTemplate(const Json& chat_template) {
    Write("tokenizer_config.json", Json{{"bos_token", "<s>"},
                                        {"eos_token", {{"content", "</s>"}, {"lstrip", false}}},
                                        {"chat_template", chat_template}}
                                       .dump());
  }

  const std::string folder_ = testing::TempDir() + "chat_template_test";
  const Conversation talk_{.messages = {{{"role", "user"}, {"content", "Hi"}},
                                        {{"role", "assistant"}, {"content", "Hello.\n"}},
                                        {{"role", "user"}, {"content", "Bye"}},
                                        {{"role", "assistant"}, {"content", "See you"}}}};
};

std::vector<std::string> Spoken(const ChatText& chat) {
  std::vector<std::string> spoken;
  for (const TextSpan& span : chat.assistant) {
    spoken.push_back(chat.text.substr(span.begin, span.end - span.begin));
  }
  return spoken;
}

TEST_F(ChatTemplateTest, TheFileComesBeforeTheConfiguration) {
  WriteTemplate("from the configuration{{ bos_token }}{{ eos_token }}{{ sep_token }}");
  EXPECT_EQ(*ChatTemplate::Load(folder_)->Text(talk_, false), "from the configuration<s></s>");
  Write("chat_template.jinja", "from the file{{ eos_token }}");
  EXPECT_EQ(*ChatTemplate::Load(folder_)->Text(talk_, false), "from the file</s>");
  Conversation with_tools = talk_;
  with_tools.tools = Json::array({Json::object()});
  EXPECT_EQ(*ChatTemplate::Load(folder_)->Text(with_tools, false), "from the file</s>");
  std::filesystem::create_directories(folder_ + "/additional_chat_templates");
  Write("additional_chat_templates/tool_use.jinja", "{{ tools | length }} tool");
  EXPECT_EQ(*ChatTemplate::Load(folder_)->Text(with_tools, false), "1 tool");
  EXPECT_EQ(*ChatTemplate::Load(folder_)->Text(talk_, false), "from the file</s>");
}

TEST_F(ChatTemplateTest, NamedOnes) {
  WriteTemplate({{{"name", "default"}, {"template", "plain"}},
                 {{"name", "tool_use"}, {"template", "{{ tools | length }} tools"}}});
  const auto chat = ChatTemplate::Load(folder_);
  ASSERT_TRUE(chat.ok()) << chat.status();
  Conversation with_tools = talk_;
  with_tools.tools = Json::array({Json::object(), Json::object()});
  EXPECT_EQ(*chat->Text(talk_, false), "plain");
  EXPECT_EQ(*chat->Text(with_tools, false), "2 tools");
}

TEST_F(ChatTemplateTest, WithoutGenerationMarksAnAnswerIsWhatItAdds) {
  WriteTemplate(kChatMl);
  const auto chat = ChatTemplate::Load(folder_);
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_EQ(*chat->Text({.messages = Json::array({talk_.messages[0]})}, true),
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_THAT(Spoken(*chat->Render(talk_)), ElementsAre("Hello.\n<|im_end|>", "See you<|im_end|>"));
}

TEST_F(ChatTemplateTest, WhatCannotBeToldIsRefused) {
  // Only the last answer's reasoning is shown.
  WriteTemplate(
      "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' and not loop.last %}"
      "{{ m.content.split('.')[0] }}{% else %}{{ m.content }}{% endif %}{% endfor %}"
      "{% if add_generation_prompt %}[assistant]{% endif %}");
  EXPECT_THAT(std::string(ChatTemplate::Load(folder_)->Render(talk_).status().message()),
              testing::AllOf(HasSubstr("message 2 is shown otherwise once others follow, so"),
                             HasSubstr("give --chat_template a copy of the template")));
  WriteTemplate(
      "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
      "{% if add_generation_prompt %}[bot]{% endif %}");
  EXPECT_THAT(std::string(ChatTemplate::Load(folder_)->Render(talk_).status().message()),
              HasSubstr("message 2 does not begin as add_generation_prompt begins"));
}

TEST_F(ChatTemplateTest, WhetherAnswersEnd) {
  WriteTemplate(kChatMl);
  EXPECT_TRUE(*ChatTemplate::Load(folder_)->AnswersEnd());
  EXPECT_TRUE(*ChatTemplate::LoadNamed("seed", folder_)->AnswersEnd());
  WriteTemplate(
      "{% for m in messages %}<{{ m.role }}>\n{{ m.content }}\n{% endfor %}"
      "{% if add_generation_prompt %}<assistant>{% endif %}");
  EXPECT_FALSE(*ChatTemplate::Load(folder_)->AnswersEnd());
  // It is there, but not among what is learnt.
  const std::string marked =
      "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}</s>{% endfor %}";
  WriteTemplate(marked);
  EXPECT_FALSE(*ChatTemplate::Load(folder_)->AnswersEnd());
}

TEST_F(ChatTemplateTest, TheChaptersOwn) {
  const auto chat = ChatTemplate::LoadNamed("seed", folder_);
  ASSERT_TRUE(chat.ok()) << chat.status();
  const auto text = chat->Render(talk_);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->text,
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            "<|im_start|>human\nHi<|im_end|>\n<|im_start|>assistant\nHello.\n<|im_end|>\n"
            "<|im_start|>human\nBye<|im_end|>\n<|im_start|>assistant\nSee you<|im_end|>\n");
  EXPECT_THAT(Spoken(*text), ElementsAre("Hello.\n<|im_end|>", "See you<|im_end|>"));
  Write("mine.jinja", "mine");
  EXPECT_EQ(*ChatTemplate::LoadNamed(folder_ + "/mine.jinja", folder_)->Text(talk_, false), "mine");
}

TEST_F(ChatTemplateTest, ErrorsSayWhatToDo) {
  EXPECT_THAT(std::string(ChatTemplate::Load(folder_).status().message()),
              HasSubstr("give one with --chat_template (a file, or a name: seed)"));
  EXPECT_THAT(std::string(ChatTemplate::LoadNamed("llama", folder_).status().message()),
              testing::AllOf(HasSubstr("--chat_template llama: "), HasSubstr("a name: seed")));
  WriteTemplate(7);
  EXPECT_THAT(std::string(ChatTemplate::Load(folder_).status().message()),
              HasSubstr("chat_template: expected a text or a list"));
  WriteTemplate("{% for %}");
  EXPECT_THAT(std::string(ChatTemplate::Load(folder_).status().message()),
              HasSubstr("tokenizer_config.json: chat_template: "));
}

}  // namespace
}  // namespace lathe
