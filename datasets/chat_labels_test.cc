// Ids and labels against TRL's and the chapter's code (tests/goldens/chat_templates),
// with the real tokenizer of SmolLM2.
#include "lathe/datasets/chat_labels.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lathe/base/read_file.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

constexpr char kTokenizer[] = "third_party/smollm2/tokenizer";

class ChatLabelsTest : public testing::Test {
 protected:
  ChatLabelsTest() {
    // More of them, made by make_labels.py with a count: LATHE_LABELS_GOLDEN.
    const char* other = std::getenv("LATHE_LABELS_GOLDEN");
    const auto text =
        ReadFile(other != nullptr ? other : "tests/goldens/chat_templates/labels.json");
    EXPECT_TRUE(text.ok()) << text.status();
    golden_ = Json::parse(*text);
    auto tokenizer = Tokenizer::Load(kTokenizer);
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
    const std::string file = testing::TempDir() + "marked.jinja";
    std::ofstream(file) << golden_["marked"].get<std::string>();
    chat_.push_back(*ChatTemplate::LoadNamed(file, kTokenizer));
  }

  absl::StatusOr<LabelledTokens> Label(const Json& row, const LabelOptions& options) const {
    const auto read = ReadChatRow(row);
    EXPECT_TRUE(read.ok()) << read.status();
    return LabelChat(*read, options, &chat_[0], *tokenizer_);
  }

  static LabelledTokens FromGolden(const Json& golden) {
    LabelledTokens sample{.ids = golden["ids"]};
    sample.labels.assign(sample.ids.size(), kIgnoredLabel);
    for (const Json& span : golden["learnt"]) {
      for (size_t i = span[0]; i < span[1]; ++i) sample.labels[i] = sample.ids[i];
    }
    return sample;
  }

  // SmolLM2's tokenizer with another part.
  static std::unique_ptr<Tokenizer> TokenizerWith(const std::string& part, const Json& value) {
    const std::string folder = testing::TempDir() + part;
    std::filesystem::create_directories(folder);
    // Not Json, which is slow where an object has as many keys as the vocabulary.
    auto file = nlohmann::json::parse(*ReadFile(std::string(kTokenizer) + "/tokenizer.json"));
    file[part] = value;
    std::ofstream(folder + "/tokenizer.json") << file.dump();
    std::ofstream(folder + "/tokenizer_config.json")
        << *ReadFile(std::string(kTokenizer) + "/tokenizer_config.json");
    return *Tokenizer::Load(folder);
  }

  // One that puts <|im_start|> before a text.
  static std::unique_ptr<Tokenizer> TokenizerThatBegins() {
    return TokenizerWith("post_processor", Json::parse(R"({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}},
                   {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [1],
                                            "tokens": ["<|im_start|>"]}}})"));
  }

  void ExpectGolden(const char* mask) const {
    int num_equal = 0;
    for (const Json& conversation : golden_["conversations"]) {
      const auto sample = Label({{"messages", conversation["messages"]}},
                                {.mask = *ParseLabelMask(mask), .max_length = 1 << 20});
      ASSERT_TRUE(sample.ok()) << sample.status() << conversation["messages"];
      const LabelledTokens expected = FromGolden(conversation[mask]);
      EXPECT_EQ(sample->ids, expected.ids) << conversation["messages"];
      EXPECT_EQ(sample->labels, expected.labels) << conversation["messages"];
      num_equal += sample->ids == expected.ids && sample->labels == expected.labels ? 1 : 0;
    }
    std::printf("%s: %d of %d conversations equal\n", mask, num_equal,
                static_cast<int>(golden_["conversations"].size()));
  }

  std::string Learnt(const LabelledTokens& sample) const {
    std::vector<int32_t> ids;
    for (const int32_t label : sample.labels) {
      if (label != kIgnoredLabel) ids.push_back(label);
    }
    return tokenizer_->Decode(ids, false);
  }

  Json golden_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::vector<ChatTemplate> chat_;
};

TEST_F(ChatLabelsTest, AssistantIsTrls) { ExpectGolden("assistant"); }

TEST_F(ChatLabelsTest, SeedIsTheChaptersCode) { ExpectGolden("seed"); }

TEST_F(ChatLabelsTest, PromptsAndCompletions) {
  EXPECT_EQ(Learnt(*Label({{"prompt", "2 + 2 ="}, {"completion", " 4"}}, {})), " 4<|im_end|>");
  const Json prompt = {{{"role", "user"}, {"content", "a"}},
                       {{"role", "assistant"}, {"content", "b"}},
                       {{"role", "user"}, {"content", "c"}}};
  const Json completion = Json::array({{{"role", "assistant"}, {"content", "d"}}});
  // The template has no generation prompt, so the completion has its beginning too.
  EXPECT_EQ(Learnt(*Label({{"prompt", prompt}, {"completion", completion}}, {})),
            "<|im_start|>assistant\nd<|im_end|>\n");
  const auto everything =
      Label({{"prompt", "2 + 2 ="}, {"completion", " 4"}}, {.train_on_prompt = true});
  EXPECT_EQ(everything->labels, everything->ids);
}

TEST_F(ChatLabelsTest, CompletionsAreTrls) {
  const std::unique_ptr<Tokenizer> plain = std::move(tokenizer_);
  const std::unique_ptr<Tokenizer> begins = TokenizerThatBegins();
  const std::unique_ptr<Tokenizer> composes = TokenizerWith("normalizer", {{"type", "NFC"}});
  for (const Json& golden : golden_["completions"]) {
    SCOPED_TRACE(golden.dump());
    const auto row = ReadChatRow(golden["row"]);
    ASSERT_TRUE(row.ok()) << row.status();
    const Tokenizer& tokenizer = golden["kind"] == "begun"      ? *begins
                                 : golden["kind"] == "composed" ? *composes
                                                                : *plain;
    const auto sample = LabelChat(*row, {}, &chat_[0], tokenizer);
    ASSERT_TRUE(sample.ok()) << sample.status();
    const LabelledTokens expected = FromGolden(golden);
    EXPECT_EQ(sample->ids, expected.ids);
    EXPECT_EQ(sample->labels, expected.labels);
  }
  // A conversation has the template's special tokens only.
  tokenizer_ = TokenizerThatBegins();
  const Json talk = {{"messages", Json::array({{{"role", "assistant"}, {"content", "x"}}})}};
  EXPECT_EQ(tokenizer_->Decode(Label(talk, {})->ids, false),
            "<|im_start|>assistant\nx<|im_end|>\n");
}

TEST_F(ChatLabelsTest, ACutLeavesSomethingToLearn) {
  const Json row = {{"messages",
                     {{{"role", "user"}, {"content", "one two three four five six"}},
                      {{"role", "assistant"}, {"content", "seven eight nine"}}}}};
  const auto whole = Label(row, {});
  ASSERT_TRUE(whole.ok()) << whole.status();
  const auto size = static_cast<int64_t>(whole->ids.size());
  int64_t first = 0;
  while (whole->labels[static_cast<size_t>(first)] == kIgnoredLabel) ++first;
  const auto cut = Label(row, {.max_length = first + 1});
  ASSERT_TRUE(cut.ok()) << cut.status();
  EXPECT_EQ(Learnt(*cut), "seven");
  EXPECT_EQ(std::string(Label(row, {.max_length = first}).status().message()),
            absl::StrCat("it has ", size, " tokens, and what is to be learnt begins ", "at token ",
                         first + 1, ", which --max_length ", first, " cuts off"));
}

TEST_F(ChatLabelsTest, WhatCannotBeLearntIsRefusedByItsRow) {
  const Json question = {{"messages", Json::array({{{"role", "user"}, {"content", "x"}}})}};
  EXPECT_THAT(std::string(Label(question, {}).status().message()),
              HasSubstr("nothing of it is to be learnt"));
  const Json with_tool = {{"messages",
                           {{{"role", "user"}, {"content", "x"}},
                            {{"role", "tool"}, {"content", "y"}},
                            {{"role", "assistant"}, {"content", "z"}}}}};
  EXPECT_THAT(std::string(Label(with_tool, {.mask = LabelMask::kSeed}).status().message()),
              HasSubstr("message 2 is the tool's; --label_mask seed has only the user"));
  EXPECT_THAT(std::string(Label({{"prompt", "x"}, {"completion", "y"}}, {.mask = LabelMask::kSeed})
                              .status()
                              .message()),
              HasSubstr("--label_mask seed is for conversations"));
  // <|im_start|> has a label, but nothing predicts a first token.
  const Json talk = {
      {"messages",
       {{{"role", "user"}, {"content", "x"}}, {{"role", "assistant"}, {"content", "y"}}}}};
  const LabelOptions seed = {.mask = LabelMask::kSeed};
  const std::vector<int32_t> labels = Label(talk, seed)->labels;
  const auto second =
      std::find_if(labels.begin() + 1, labels.end(), [](int32_t l) { return l != kIgnoredLabel; });
  EXPECT_EQ(labels[0], 1);
  const int64_t position = second - labels.begin();
  EXPECT_TRUE(Label(talk, {.mask = LabelMask::kSeed, .max_length = position + 1}).ok());
  EXPECT_THAT(
      std::string(
          Label(talk, {.mask = LabelMask::kSeed, .max_length = position}).status().message()),
      HasSubstr(absl::StrCat("begins at token ", position + 1, ", which --max_length ")));
  EXPECT_THAT(std::string(Label({{"prompt", "<|im_end|>"}, {"completion", ""}}, {.max_length = 1})
                              .status()
                              .message()),
              HasSubstr("--max_length 1 cuts off"));
  const std::string file = testing::TempDir() + "marks_none.jinja";
  std::ofstream(file) << "{% for m in messages %}{{ m.content }}{% if m.role == 'bot' %}"
                         "{% generation %}{% endgeneration %}{% endif %}{% endfor %}";
  chat_[0] = *ChatTemplate::LoadNamed(file, kTokenizer);
  EXPECT_THAT(std::string(Label(talk, {}).status().message()),
              HasSubstr("its {% generation %} marks none of the assistant's 1 messages"));
  EXPECT_THAT(std::string(ParseLabelMask("none").status().message()),
              HasSubstr("there are assistant and seed"));
}

}  // namespace
}  // namespace lathe
