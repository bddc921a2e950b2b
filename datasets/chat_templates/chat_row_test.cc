// Every format that is read, and what is said of rows that are in none.
#include "lathe/datasets/chat_templates/chat_row.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

ChatRow Read(const char* text) {
  const auto row = ReadChatRow(Json::parse(text));
  EXPECT_TRUE(row.ok()) << row.status();
  return row.ok() ? *row : ChatRow();
}

std::string Messages(const char* text) { return Read(text).conversation.messages.dump(); }

TEST(ChatRowTest, OpenAi) {
  EXPECT_EQ(Messages(R"({"messages": [{"role": "user", "content": "Hi"},
                                      {"role": "assistant", "content": "Hello"}]})"),
            R"([{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}])");
  const ChatRow row = Read(R"({"messages": [{"role": "assistant", "content": null,
      "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]}],
      "tools": "[{\"name\": \"f\"}]"})");
  EXPECT_EQ(row.conversation.tools.dump(), R"([{"name":"f"}])");
  EXPECT_EQ(row.conversation.messages[0]["tool_calls"][0]["function"]["name"], "f");
  EXPECT_EQ(Messages(R"({"messages": [{"role": "developer", "content": "Be kind."},
                                      {"role": "assistant", "content": "a", "weight": 1}]})"),
            R"([{"role":"developer","content":"Be kind."},)"
            R"({"role":"assistant","content":"a","weight":1}])");
}

TEST(ChatRowTest, ShareGpt) {
  EXPECT_EQ(Messages(R"({"id": "1", "conversations": [{"from": "human", "value": "Hi"},
                                                      {"from": "gpt", "value": "Hello"}]})"),
            R"([{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello"}])");
  EXPECT_EQ(Messages(R"({"system": "Be kind.", "conversations": [
                {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"},
                {"from": "observation", "value": "2"}]})"),
            R"([{"role":"system","content":"Be kind."},)"
            R"({"role":"assistant","content":"","tool_calls":[{"type":"function","function":)"
            R"({"name":"f","arguments":{"x":1}}}]},{"role":"tool","content":"2"}])");
}

TEST(ChatRowTest, Alpaca) {
  EXPECT_EQ(Messages(R"({"instruction": "Add", "input": "1, 2", "output": "3",
                         "history": [["a", "b"]]})"),
            R"([{"role":"user","content":"a"},{"role":"assistant","content":"b"},)"
            R"({"role":"user","content":"Add\n1, 2"},{"role":"assistant","content":"3"}])");
  EXPECT_EQ(Messages(R"({"instruction": "Add", "input": "", "output": "3"})"),
            R"([{"role":"user","content":"Add"},{"role":"assistant","content":"3"}])");
}

TEST(ChatRowTest, PromptAndCompletion) {
  const ChatRow plain = Read(R"({"prompt": "2 + 2 =", "completion": " 4"})");
  ASSERT_TRUE(plain.plain.has_value());
  EXPECT_EQ(plain.plain->prompt, "2 + 2 =");
  EXPECT_EQ(plain.plain->completion, " 4");
  const ChatRow chat = Read(R"({"prompt": [{"role": "user", "content": "Hi"}],
                                "completion": [{"role": "assistant", "content": "Hello"}]})");
  EXPECT_FALSE(chat.plain.has_value());
  EXPECT_EQ(chat.num_prompt_messages, 1u);
  EXPECT_EQ(chat.conversation.messages.size(), 2u);
}

TEST(ChatRowTest, WhatIsWrongIsSaid) {
  const auto error = [](const std::string& text) {
    return std::string(ReadChatRow(Json::parse(text)).status().message());
  };
  EXPECT_EQ(error("[]"), "expected a JSON object");
  EXPECT_THAT(error(R"({"text": "a", "id": 1})"),
              HasSubstr("no chat: expected messages, conversations, instruction and output, or "
                        "prompt and completion; it has text, id"));
  EXPECT_THAT(error(R"({"messages": [], "prompt": ""})"),
              HasSubstr("has messages and prompt, which are different formats; keep one"));
  EXPECT_EQ(error(R"({"messages": []})"), "messages has no message");
  EXPECT_THAT(error(R"({"messages": [{"role": "wizard", "content": "x"}]})"),
              HasSubstr("messages[0]: role 'wizard' is not known; there are assistant, "));
  EXPECT_EQ(error(R"({"messages": [{"role": "user", "content": [{"type": "image"}]}]})"),
            "messages[0]: content: expected a text");
  EXPECT_EQ(error(R"({"messages": [{"text": "x"}]})"),
            "messages[0]: expected role and content, or from and value");
  EXPECT_THAT(error(R"({"messages": [{"role": "assistant", "content": "x", "weight": 0}]})"),
              HasSubstr("messages[0]: weight other than 1 is not supported"));
  EXPECT_EQ(error(R"({"instruction": "x"})"), "output is missing");
  EXPECT_EQ(error(R"({"prompt": "x"})"), "prompt without completion");
  EXPECT_EQ(error(R"({"prompt": "x", "completion": []})"),
            "prompt and completion: expected two texts, or two lists of messages");
  EXPECT_EQ(error(R"({"messages": [{"role": "user", "content": "x"}], "tools": "no"})"),
            "tools: expected a list of functions, or one as a text");
  EXPECT_EQ(error(R"({"conversations": [{"from": "function_call", "value": "f of 1"
}]
})"),
            "conversations[0]: expected a function's name and arguments as JSON");
  // Deep enough to exhaust the stack of whoever walks it.
  const nlohmann::ordered_json deep = std::string(100'000, '[') + std::string(100'000, ']');
  EXPECT_EQ(
      error(R"({"messages": [{"role": "user", "content": "x"}], "tools": )" + deep.dump() + "}"),
      "tools: expected a list of functions, or one as a text");
  EXPECT_EQ(error(R"({"instruction": "a", "output": "b", "history": [["a"]]})"),
            "history: expected a list of [question, answer]");
}

}  // namespace
}  // namespace lathe
