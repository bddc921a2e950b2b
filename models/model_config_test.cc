#include "lathe/models/model_config.h"

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

constexpr char kQwen[] =
    R"({"model_type": "qwen2", "vocab_size": 100, "hidden_size": 16, "intermediate_size": 32,
  "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "torch_dtype": "bfloat16",
  "rope_theta": 1000000.0, "tie_word_embeddings": true, "use_sliding_window": false, "some_other_key": [1, 2]})";

// kQwen with one piece of text replaced.
std::string With(const std::string& from, const std::string& to) {
  EXPECT_NE(std::string(kQwen).find(from), std::string::npos) << from;
  return absl::StrReplaceAll(kQwen, {{from, to}});
}

TEST(ModelConfigTest, ReadsTheV4Spelling) {
  const auto config = ParseModelConfig(kQwen, "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->head_dim, 4);
  EXPECT_EQ(config->num_key_value_heads, 2);
  EXPECT_EQ(config->max_position_embeddings, 32768);
  EXPECT_EQ(config->rope.theta, 1e6);
  EXPECT_EQ(config->dtype, "bfloat16");
  EXPECT_TRUE(config->tie_word_embeddings);
  EXPECT_TRUE(config->qkv_bias);
  EXPECT_FALSE(config->o_bias);
}

TEST(ModelConfigTest, ReadsBothRopeSpellings) {
  const auto v4 = ParseModelConfig(
      With("\"some_other_key\": [1, 2]", R"("rope_scaling": {"type": "linear", "factor": 2.0})"),
      "c");
  ASSERT_TRUE(v4.ok()) << v4.status();
  EXPECT_EQ(v4->rope.type, RopeParameters::Type::kLinear);
  EXPECT_EQ(v4->rope.theta, 1e6);
  const auto v5 = ParseModelConfig(
      With("\"rope_theta\": 1000000.0",
           R"("rope_parameters": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
           "high_freq_factor": 4, "original_max_position_embeddings": 8192, "rope_theta": 500000.0})"),
      "c");
  ASSERT_TRUE(v5.ok()) << v5.status();
  EXPECT_EQ(v5->rope.type, RopeParameters::Type::kLlama3);
  EXPECT_EQ(v5->rope.theta, 5e5);
  EXPECT_EQ(v5->rope.original_max_position_embeddings, 8192);
}

TEST(ModelConfigTest, WritesBackWhatItDoesNotKnow) {
  const auto config = ParseModelConfig(kQwen, "c");
  const auto written = nlohmann::ordered_json::parse(WriteModelConfig(*config, "float32"));
  EXPECT_EQ(written["some_other_key"].dump(), "[1,2]");
  EXPECT_EQ(written["dtype"], "float32");
  EXPECT_FALSE(written.contains("torch_dtype"));
  EXPECT_EQ(written["architectures"][0], "Qwen2ForCausalLM");
  EXPECT_TRUE(ParseModelConfig(written.dump(), "c").ok());
}

// Deeper than the stack of whoever walks or prints the value.
TEST(ModelConfigTest, RefusesDeepNesting) {
  const std::string deep = std::string(1000000, '[') + std::string(1000000, ']');
  const auto parsed = ParseModelConfig("{\"hidden_size\": " + deep + "}", "config.json");
  ASSERT_FALSE(parsed.ok());
  EXPECT_TRUE(absl::StartsWith(parsed.status().message(), "config.json:")) << parsed.status();
}

struct Refusal {
  const char* from;
  const char* to;
  const char* message;  // a part of it
};

TEST(ModelConfigTest, RefusesByFileAndField) {
  const Refusal refusals[] = {
      {"\"model_type\": \"qwen2\", ", "", "config.json: field 'model_type' is missing"},
      {"qwen2", "gpt2", "field 'model_type' is \"gpt2\"; supported are"},
      {"\"hidden_size\": 16, ", "", "field 'hidden_size' is missing"},
      {"\"hidden_size\": 16", "\"hidden_size\": \"16\"",
       "field 'hidden_size' is \"16\"; expected an integer"},
      {"\"hidden_size\": 16", "\"hidden_size\": 16.5", "field 'hidden_size' is 16.5"},
      {"\"hidden_size\": 16", "\"hidden_size\": -16", "field 'hidden_size' is -16"},
      {"\"vocab_size\": 100", "\"vocab_size\": 99999999999999999999999", "field 'vocab_size' is"},
      {"\"vocab_size\": 100", "\"vocab_size\": 18446744073709551615", "field 'vocab_size' is"},
      {"\"num_hidden_layers\": 2", "\"num_hidden_layers\": 0", "field 'num_hidden_layers' is 0"},
      {"\"num_hidden_layers\": 2", "\"num_hidden_layers\": 100000000", "field 'num_hidden_layers'"},
      {"\"intermediate_size\": 32,\n  \"num_hidden_layers\": 2",
       "\"intermediate_size\": 268435456, \"num_hidden_layers\": 4096", "describe a model of"},
      {"\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3",
       "must divide num_attention_heads, 4"},
      {"\"num_attention_heads\": 4", "\"num_attention_heads\": 6", "must divide hidden_size, 16"},
      {"\"some_other_key\": [1, 2]", "\"head_dim\": 5", "rotary embedding needs an even number"},
      {"\"some_other_key\": [1, 2]", "\"hidden_act\": \"gelu\"",
       "field 'hidden_act' is \"gelu\"; only \"silu\""},
      {"\"some_other_key\": [1, 2]", "\"attention_dropout\": 0.1",
       "field 'attention_dropout' is 0.1"},
      {"\"use_sliding_window\": false", "\"use_sliding_window\": true",
       "field 'use_sliding_window' is true"},
      {"\"some_other_key\": [1, 2]", "\"quantization_config\": {}",
       "quantised models cannot be trained"},
      {"\"some_other_key\": [1, 2]", "\"rope_scaling\": {\"type\": \"longrope\"}",
       "field 'rope_scaling.type' is \"longrope\""},
      {"\"some_other_key\": [1, 2]", "\"rope_scaling\": {\"type\": \"linear\"}",
       "field 'rope_scaling.factor' is missing"},
      {"\"some_other_key\": [1, 2]", "\"rope_scaling\": 3",
       "field 'rope_scaling' is not an object"},
      {"\"tie_word_embeddings\": true", "\"tie_word_embeddings\": 1",
       "field 'tie_word_embeddings' is 1; expected true or false"},
      {"\"some_other_key\": [1, 2]", "\"pad_token_id\": 100", "must be below vocab_size, 100"},
  };
  for (const Refusal& refusal : refusals) {
    const auto config = ParseModelConfig(With(refusal.from, refusal.to), "config.json");
    ASSERT_FALSE(config.ok()) << refusal.to;
    EXPECT_NE(std::string(config.status().message()).find(refusal.message), std::string::npos)
        << config.status();
    EXPECT_EQ(config.status().message().find('\n'), std::string::npos);
  }
  EXPECT_EQ(ParseModelConfig("[]", "f").status().message(), "f: not a JSON object");
  EXPECT_NE(ReadModelConfig("no/such/folder").status().message().find("no/such/folder"),
            std::string::npos);
}

}  // namespace
}  // namespace lathe
