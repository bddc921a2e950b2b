// Ids and labels against transformers' masks and the chapter's code (tests/goldens/chat_templates),
// with the real tokenizer of SmolLM2.
#include "lathe/datasets/chat_labels.h"

#include <cstdio>
#include <cstdlib>
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
    return LabelChat(*read, options, chat_[0], *tokenizer_);
  }

  void ExpectGolden(const char* mask) const {
    int num_equal = 0;
    for (const Json& conversation : golden_["conversations"]) {
      const auto sample = Label({{"messages", conversation["messages"]}},
                                {.mask = *ParseLabelMask(mask), .max_length = 1 << 20});
      ASSERT_TRUE(sample.ok()) << sample.status() << conversation["messages"];
      const std::vector<int32_t> ids = conversation[mask]["ids"];
      std::vector<int32_t> labels(ids.size(), kIgnoredLabel);
      for (const Json& span : conversation[mask]["learnt"]) {
        for (size_t i = span[0]; i < span[1]; ++i) labels[i] = ids[i];
      }
      EXPECT_EQ(sample->ids, ids) << conversation["messages"];
      EXPECT_EQ(sample->labels, labels) << conversation["messages"];
      num_equal += sample->ids == ids && sample->labels == labels ? 1 : 0;
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

TEST_F(ChatLabelsTest, AssistantIsTransformersMask) { ExpectGolden("assistant"); }

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
  EXPECT_THAT(std::string(ParseLabelMask("none").status().message()),
              HasSubstr("there are assistant and seed"));
}

}  // namespace
}  // namespace lathe
