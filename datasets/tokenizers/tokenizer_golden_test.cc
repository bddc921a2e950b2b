// Ids, decoded texts and special tokens equal to Hugging Face's, for a tokenizer of each family and
// for odd ones. The goldens and how they were made: tests/goldens/tokenizers/make_goldens.py.
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"
#include "lathe/datasets/tokenizers/tokenizer.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

constexpr char kGoldens[] = "tests/goldens/tokenizers/";

nlohmann::json ReadGolden(const std::string& name) {
  std::ifstream file(kGoldens + name);
  EXPECT_TRUE(file.good()) << name;
  return nlohmann::json::parse(file);
}

nlohmann::json ToJson(std::optional<int32_t> id) {
  return id.has_value() ? nlohmann::json(*id) : nlohmann::json(nullptr);
}

struct Case {
  const char* name;
  std::string folder;
  std::string expected;
};

class TokenizerGoldenTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<Tokenizer>> loaded = Tokenizer::Load(GetParam().folder);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    tokenizer_ = *std::move(loaded);
    expected_ = ReadGolden(GetParam().expected);
    texts_ = ReadGolden("texts.json").get<std::vector<std::string>>();
    ASSERT_EQ(texts_.size(), expected_["ids"].size());
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  nlohmann::json expected_;
  std::vector<std::string> texts_;
};

TEST_P(TokenizerGoldenTest, EncodesAsHuggingFace) {
  // Twice, since the second time all short pieces come from the cache.
  for (int round = 0; round < 2; ++round) {
    for (size_t i = 0; i < texts_.size(); ++i) {
      EXPECT_EQ(nlohmann::json(tokenizer_->Encode(texts_[i], true).value()), expected_["ids"][i])
          << texts_[i];
      EXPECT_EQ(nlohmann::json(tokenizer_->Encode(texts_[i], false).value()),
                expected_["plain_ids"][i])
          << texts_[i];
    }
  }
}

TEST_P(TokenizerGoldenTest, DecodesAsHuggingFace) {
  for (size_t i = 0; i < texts_.size(); ++i) {
    const auto ids = expected_["ids"][i].get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer_->Decode(ids, false), expected_["decoded"][i].get<std::string>());
    EXPECT_EQ(tokenizer_->Decode(ids, true),
              expected_["decoded_without_special"][i].get<std::string>());
  }
}

TEST_P(TokenizerGoldenTest, NamesTheSameTokens) {
  EXPECT_EQ(tokenizer_->vocab_size(), expected_["vocab_size"].get<int32_t>());
  EXPECT_EQ(ToJson(tokenizer_->bos_id()), expected_["bos_id"]);
  EXPECT_EQ(ToJson(tokenizer_->pad_id()), expected_["pad_id"]);
  // Where no file names an end of text we take "<|endoftext|>", as transformers' classes for GPT-2
  // and Qwen2 do; the goldens come from its general class.
  nlohmann::json eos = expected_["eos_id"];
  if (eos.is_null()) eos = ToJson(tokenizer_->TokenToId("<|endoftext|>"));
  EXPECT_EQ(ToJson(tokenizer_->eos_id()), eos);
}

TEST_P(TokenizerGoldenTest, EncodesABatchAsOneByOne) {
  std::vector<std::string_view> batch;
  for (int round = 0; round < 5; ++round) batch.insert(batch.end(), texts_.begin(), texts_.end());
  for (int num_threads : {1, 4}) {
    const auto ids = tokenizer_->EncodeBatch(batch, true, num_threads).value();
    ASSERT_EQ(ids.size(), batch.size());
    for (size_t i = 0; i < ids.size(); ++i) {
      EXPECT_EQ(nlohmann::json(ids[i]), expected_["ids"][i % texts_.size()]);
    }
  }
}

Case Variant(const char* name) {
  return {name, std::string(kGoldens) + name, std::string(name) + "/expected.json"};
}

INSTANTIATE_TEST_SUITE_P(Synthetic, TokenizerGoldenTest,
                         testing::Values(Variant("gpt2"), Variant("qwen2"), Variant("llama3"),
                                         Variant("smollm2"), Variant("deepseek"), Variant("qwen35"),
                                         Variant("o200k"), Variant("odd"), Variant("splits"),
                                         Variant("smollm2_in_qwen2")),
                         [](const auto& info) { return std::string(info.param.name); });

INSTANTIATE_TEST_SUITE_P(Real, TokenizerGoldenTest,
                         testing::Values(Case{"SmolLM2", "third_party/smollm2/tokenizer",
                                              "smollm2_real.expected.json"}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace lathe
