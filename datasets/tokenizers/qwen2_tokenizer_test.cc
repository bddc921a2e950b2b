#include "lathe/datasets/tokenizers/qwen2_tokenizer.h"

#include <fstream>

#include "gtest/gtest.h"

namespace lathe {
namespace {

nlohmann::json ReadTokenizer(const std::string& name) {
  std::ifstream file("tests/goldens/tokenizers/" + name + "/tokenizer.json");
  return nlohmann::json::parse(file);
}

TEST(Qwen2TokenizerTest, ChangesNothingInQwensOwn) {
  nlohmann::json fields = ReadTokenizer("qwen2");
  EXPECT_FALSE(PutQwen2Parts(false, &fields));
  fields["pre_tokenizer"]["pretokenizers"][1]["trim_offsets"] = false;
  EXPECT_FALSE(PutQwen2Parts(false, &fields));
  EXPECT_TRUE(PutQwen2Parts(true, &fields));
}

TEST(Qwen2TokenizerTest, ReplacesOthers) {
  for (const char* name : {"smollm2", "llama3", "gpt2", "deepseek", "odd"}) {
    nlohmann::json fields = ReadTokenizer(name);
    EXPECT_TRUE(PutQwen2Parts(false, &fields)) << name;
    EXPECT_EQ(fields["normalizer"], ReadTokenizer("qwen2")["normalizer"]) << name;
    EXPECT_EQ(fields["pre_tokenizer"], ReadTokenizer("qwen2")["pre_tokenizer"]) << name;
    EXPECT_FALSE(PutQwen2Parts(false, &fields)) << name;
  }
}

TEST(Qwen2TokenizerTest, BrokenFieldsDoNotMatter) {
  nlohmann::json fields = {{"pre_tokenizer", {{"pretokenizers", {1, "x"}}}},
                           {"normalizer", 3},
                           {"model", {{"type", "BPE"}}}};
  EXPECT_TRUE(PutQwen2Parts(false, &fields));
}

}  // namespace
}  // namespace lathe
