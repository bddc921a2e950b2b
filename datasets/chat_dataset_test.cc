// Lines of several formats in one file, and the line that is wrong.
#include "lathe/datasets/chat_dataset.h"

#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

constexpr char kTokenizer[] = "third_party/smollm2/tokenizer";

absl::StatusOr<std::shared_ptr<const ChatDataset>> Load(const std::string& lines, int num_workers) {
  const std::string file = testing::TempDir() + "chats.jsonl";
  std::ofstream(file) << lines;
  const auto source = JsonlSource::Open({file}, {.text_column = ""});
  EXPECT_TRUE(source.ok()) << source.status();
  const auto tokenizer = Tokenizer::Load(kTokenizer);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto chat = ChatTemplate::Load(kTokenizer);
  EXPECT_TRUE(chat.ok()) << chat.status();
  return ChatDataset::Create(*source, {.max_length = 64}, &*chat, **tokenizer,
                             {.num_workers = num_workers});
}

std::string Learnt(const Sample& sample) {
  std::vector<int32_t> ids;
  for (const int32_t label : sample.labels) {
    if (label != kIgnoredLabel) ids.push_back(label);
  }
  return (*Tokenizer::Load(kTokenizer))->Decode(ids, /*skip_special_tokens=*/false);
}

TEST(ChatDatasetTest, EachLineInItsFormat) {
  const std::string lines =
      R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]})"
      "\n"
      R"({"conversations": [{"from": "human", "value": "1"}, {"from": "gpt", "value": "2"}]})"
      "\n\n"
      R"({"instruction": "Say", "output": "so"})"
      "\n"
      R"({"prompt": "2 + 2 =", "completion": " 4"})"
      "\n";
  for (const int num_workers : {1, 3}) {
    const auto chats = Load(lines, num_workers);
    ASSERT_TRUE(chats.ok()) << chats.status();
    ASSERT_EQ((*chats)->size(), 4);
    // The model's own template has no {% generation %}.
    EXPECT_EQ(Learnt((*chats)->Get(0)), "Yes?<|im_end|>");
    EXPECT_EQ(Learnt((*chats)->Get(1)), "2<|im_end|>");
    EXPECT_EQ(Learnt((*chats)->Get(2)), "so<|im_end|>");
    EXPECT_EQ(Learnt((*chats)->Get(3)), " 4<|im_end|>");
    EXPECT_EQ((*chats)->Get(3).input_ids.size(), (*chats)->Get(3).labels.size());
  }
}

TEST(ChatDatasetTest, TheWrongLineIsNamed) {
  const std::string good = R"({"instruction": "Say", "output": "so"})"
                           "\n";
  const auto error = [&](const std::string& line) {
    return std::string(Load(good + line, 2).status().message());
  };
  using testing::HasSubstr;
  EXPECT_THAT(error(R"({"text": "x"})"), HasSubstr("chats.jsonl:2: no chat: expected messages"));
  EXPECT_THAT(error("{"), HasSubstr("chats.jsonl:2: row:1:"));
  EXPECT_THAT(error(R"({"messages": [{"role": "user", "content": "x"}]})"),
              HasSubstr("chats.jsonl:2: nothing of it is to be learnt"));
  std::string words;
  for (int i = 0; i < 100; ++i) words += " word";
  EXPECT_THAT(error(R"({"instruction": ")" + words + R"(", "output": "so"})"),
              HasSubstr("which --max_length 64 cuts off"));
}

}  // namespace
}  // namespace lathe
