// Broken and hostile config.json and tokenizer.json.

#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/tests/bad_input/refusal.h"
#include "lathe/tests/process/program.h"
#include "lathe/tests/process/tiny_pretraining.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Change = std::function<void(Json&)>;

class BadModelTest : public testing::Test {
 protected:
  void Expect(const std::vector<std::string>& words) const {
    ExpectRefusal(RunProgram(kPretrain, {.arguments = tiny_.Flags(out_)}), words, out_);
  }

  void WriteConfig(const Change& change) const {
    Json json = TinyModelConfig();
    change(json);
    WriteFile(config_, json.dump(2));
  }

  void WriteTokenizer(const Change& change) const {
    Json json = TinyTokenizer();
    change(json);
    WriteFile(tokenizer_, json.dump());
  }

  const std::string folder_ = NewFolder();
  const TinyPretraining tiny_{folder_};
  const std::string config_ = tiny_.model_folder() + "/config.json";
  const std::string tokenizer_ = tiny_.model_folder() + "/tokenizer.json";
  const std::string out_ = folder_ + "/out";
};

// Deeper than any stack holds.
std::string Deep() { return std::string(2'000'000, '[') + std::string(2'000'000, ']'); }

TEST_F(BadModelTest, ConfigIsNoJson) {
  for (const char* text : {"", "{", "[]", "3", "{\"a\": \xff}", "{\"a\": 1} more"}) {
    SCOPED_TRACE(text);
    WriteFile(config_, text);
    Expect({config_});
  }
  fs::remove(config_);
  Expect({config_});
  ASSERT_EQ(mkfifo(config_.c_str(), 0600), 0);
  Expect({config_});
}

TEST_F(BadModelTest, ConfigWithATailOrTooManyKeys) {
  WriteFile(config_, TinyModelConfig().dump() + std::string(1, '\0') + "{}");
  Expect({config_, "NUL"});
  Json config = TinyModelConfig();
  for (int i = 0; i < 200'000; ++i) config[absl::StrCat("key", i)] = i;
  WriteFile(config_, config.dump());
  Expect({config_, "keys"});
}

// In a field that nobody reads, and in some that messages show.
TEST_F(BadModelTest, ConfigNestsDeeply) {
  for (const char* field : {"other", "hidden_size", "rope_scaling"}) {
    SCOPED_TRACE(field);
    Json config = TinyModelConfig();
    config.erase(field);
    std::string text = config.dump();
    text.pop_back();
    WriteFile(config_, absl::StrCat(text, ",\"", field, "\":", Deep(), "}"));
    Expect({config_});
  }
}

TEST_F(BadModelTest, ConfigLacksAField) {
  for (const char* field : {"model_type", "vocab_size", "hidden_size", "intermediate_size",
                            "num_hidden_layers", "num_attention_heads"}) {
    SCOPED_TRACE(field);
    WriteConfig([&](Json& config) { config.erase(field); });
    Expect({config_, field, "missing"});
  }
}

TEST_F(BadModelTest, ConfigHasWrongValues) {
  const std::vector<std::pair<const char*, Json>> changes = {
      {"model_type", "mamba"},
      {"model_type", 3},
      {"vocab_size", "300"},
      {"vocab_size", 0},
      {"vocab_size", -300},
      {"vocab_size", 1e30},
      {"vocab_size", 2.5},
      {"hidden_size", std::numeric_limits<uint64_t>::max()},
      {"hidden_size", int64_t{1} << 62},
      {"num_attention_heads", 3},
      {"num_key_value_heads", 0},
      {"num_hidden_layers", 1'000'000'000},
      {"head_dim", 7},
      {"rms_norm_eps", "small"},
      {"rms_norm_eps", -1},
      {"tie_word_embeddings", "yes"},
      {"hidden_act", "gelu"},
      {"rope_scaling", {{"rope_type", "spiral"}, {"factor", 2}}},
      {"rope_scaling", {{"rope_type", "yarn"}}},
      {"rope_scaling", {{"rope_type", "linear"}, {"factor", -2}}},
      {"rope_theta", 0},
      {"max_position_embeddings", -1},
      {"quantization_config", {{"bits", 4}}},
  };
  for (const auto& [field, value] : changes) {
    SCOPED_TRACE(absl::StrCat(field, " ", value.dump()));
    WriteConfig([&, field = field, value = value](Json& config) { config[field] = value; });
    Expect({config_, field});
  }
}

// Each size is one that some model could have; together no machine holds them.
TEST_F(BadModelTest, ConfigHasAbsurdSizes) {
  const std::vector<Json> absurd = {
      {{"vocab_size", 250'000'000}, {"hidden_size", 16'384}},
      {{"hidden_size", 1'000'000}, {"intermediate_size", 4'000'000}},
      {{"num_hidden_layers", 100'000}, {"hidden_size", 16'384}, {"intermediate_size", 65'536}},
      {{"intermediate_size", 268'435'456}, {"hidden_size", 8'192}},
      {{"num_attention_heads", 1'000'000},
       {"num_key_value_heads", 1'000'000},
       {"head_dim", 100'000}},
      {{"num_hidden_layers", 100'000}},
  };
  for (const Json& sizes : absurd) {
    SCOPED_TRACE(sizes.dump());
    WriteConfig([&](Json& config) { config.update(sizes); });
    Expect({tiny_.model_folder()});
  }
}

TEST_F(BadModelTest, TokenizerIsNoJson) {
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("{\"model\": 3}"),
        std::string("{\"\xff\": 3}"), Deep(), "{\"other\": " + Deep() + "}"}) {
    SCOPED_TRACE(text.substr(0, 20));
    WriteFile(tokenizer_, text);
    Expect({tokenizer_});
  }
  fs::remove(tokenizer_);
  Expect({tiny_.model_folder(), "tokenizer.json"});
  ASSERT_EQ(mkfifo(tokenizer_.c_str(), 0600), 0);
  Expect({tiny_.model_folder(), "tokenizer.json"});
}

TEST_F(BadModelTest, TokenizerOfAnUnsupportedKind) {
  const auto type = [](const char* part, const char* name) {
    return [=](Json& tokenizer) { tokenizer[part] = {{"type", name}}; };
  };
  const std::vector<std::pair<std::string, Change>> changes = {
      {"WordPiece", [](Json& tokenizer) { tokenizer["model"]["type"] = "WordPiece"; }},
      {"Unigram", type("model", "Unigram")},
      {"model", [](Json& tokenizer) { tokenizer.erase("model"); }},
      {"vocab", [](Json& tokenizer) { tokenizer["model"]["vocab"] = Json::array(); }},
      {"pre_tokenizer", type("pre_tokenizer", "Surprise")},
      {"normalizer", type("normalizer", "Surprise")},
      {"post_processor", type("post_processor", "Surprise")},
      {"pre_tokenizer",
       [](Json& tokenizer) {
         tokenizer["pre_tokenizer"] = {{"type", "Split"},
                                       {"pattern", {{"Regex", "("}}},
                                       {"behavior", "Isolated"},
                                       {"invert", false}};
       }},
  };
  for (const auto& [word, change] : changes) {
    SCOPED_TRACE(word);
    WriteTokenizer(change);
    Expect({tokenizer_, word});
  }
}

TEST_F(BadModelTest, TokenizerWithDanglingMerges) {
  const std::vector<Json> merges = {
      {"a b"},                                   // there is no token "ab"
      Json::array({Json::array({"zzz", "a"})}),  // nor "zzz"
      {"abc"},
      {"a b c"},
      {3},
      {nullptr},
  };
  for (const Json& some : merges) {
    SCOPED_TRACE(some.dump());
    WriteTokenizer([&](Json& tokenizer) { tokenizer["model"]["merges"] = some; });
    Expect({tokenizer_, "merges"});
  }
}

TEST_F(BadModelTest, TokenizerWithBadIds) {
  const auto a_is = [](const Json& id) {
    return [=](Json& tokenizer) { tokenizer["model"]["vocab"]["a"] = id; };
  };
  const std::vector<std::pair<std::string, Change>> changes = {
      {"negative", a_is(-1)},
      {"text", a_is("x")},
      {"beyond 31 bits", a_is(4'000'000'000)},
      {"beyond 32 bits", a_is(int64_t{1} << 40)},
      {"twice",
       [](Json& tokenizer) {
         tokenizer["model"]["vocab"]["a"] = tokenizer["model"]["vocab"]["b"];
       }},
      {"far", a_is(2'000'000'000)},
      {"no content",
       [](Json& tokenizer) { tokenizer["added_tokens"] = Json::array({{{"id", 3}}}); }},
  };
  for (const auto& [what, change] : changes) {
    SCOPED_TRACE(what);
    WriteTokenizer(change);
    Expect({tiny_.model_folder()});
  }
}

TEST_F(BadModelTest, TokenizerLargerThanTheModel) {
  WriteTokenizer([](Json& tokenizer) {
    tokenizer["added_tokens"][0]["id"] = 300;
    tokenizer["model"]["vocab"]["<|endoftext|>"] = 300;
  });
  Expect({tiny_.model_folder(), "300", "vocab_size"});
}

}  // namespace
}  // namespace lathe
