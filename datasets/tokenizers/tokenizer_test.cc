// What a tokenizer directory may hold: broken and hostile files, kinds that are refused, special
// tokens.
#include "lathe/datasets/tokenizers/tokenizer.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

using nlohmann::json;

// A tokenizer of the bytes a, b, c and space with two merges.
json SmallTokenizer() {
  return json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [{"id": 6, "content": "<|end|>", "single_word": false, "lstrip": false, "rstrip": false,
                      "normalized": false, "special": true}],
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    "post_processor": null,
    "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
              "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
              "vocab": {"a": 0, "b": 1, "c": 2, "Ġ": 3, "ab": 4, "Ġab": 5},
              "merges": [["a", "b"], "Ġ ab"]}})");
}

class TokenizerTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }

  void Write(const std::string& name, const std::string& content) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << content;
  }

  absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& tokenizer_json) {
    Write("tokenizer.json", tokenizer_json);
    return Tokenizer::Load(folder_);
  }

  // Loading must fail and name the file and `what`.
  void ExpectRefused(const std::string& tokenizer_json, const std::string& what) {
    const absl::Status status = Load(tokenizer_json).status();
    EXPECT_FALSE(status.ok()) << what;
    EXPECT_NE(status.message().find("tokenizer.json: "), std::string::npos) << status;
    EXPECT_NE(status.message().find(what), std::string::npos) << status << "\nhas no: " << what;
    EXPECT_EQ(status.message().find('\n'), std::string::npos) << status;
    EXPECT_LT(status.message().size(), 700u);
  }

  // The small tokenizer with the value at `pointer` replaced.
  void ExpectRefused(const std::string& pointer, const json& value, const std::string& what) {
    json file = SmallTokenizer();
    file[json::json_pointer(pointer)] = value;
    ExpectRefused(file.dump(), what);
  }

  std::string folder_;
};

TEST_F(TokenizerTest, EncodesAndDecodes) {
  const auto tokenizer = Load(SmallTokenizer().dump()).value();
  EXPECT_EQ(tokenizer->Encode("ab ab<|end|>ca", true).value(),
            std::vector<int32_t>({4, 5, 6, 2, 0}));
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{4, 5, 6, 2, 0}, false), "ab ab<|end|>ca");
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{4, 5, 6, 2, 0}, true), "ab abca");
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{0, -1, 7, 1 << 30, 1}, false), "ab");
  EXPECT_EQ(tokenizer->vocab_size(), 7);
  EXPECT_EQ(tokenizer->TokenToId("Ġab"), 5);
  EXPECT_EQ(tokenizer->TokenToId("nothing"), std::nullopt);
  EXPECT_EQ(tokenizer->IdToToken(6), "<|end|>");
  EXPECT_EQ(tokenizer->IdToToken(7), std::nullopt);
  EXPECT_EQ(tokenizer->eos_id(), std::nullopt);
  std::vector<int32_t> ids = {9};
  EXPECT_TRUE(tokenizer->EncodeAppend("c", true, &ids).ok());
  EXPECT_EQ(ids, std::vector<int32_t>({9, 2}));
}

TEST_F(TokenizerTest, WhereTokensEnd) {
  json file = SmallTokenizer();
  auto tokenizer = Load(file.dump()).value();
  const auto ends = [&](const char* text) {
    return tokenizer->TokenEnds(text, tokenizer->Encode(text, false).value()).value();
  };
  EXPECT_EQ(ends("ab ab<|end|>ca"), std::vector<size_t>({2, 5, 12, 13, 14}));
  EXPECT_EQ(ends(""), std::vector<size_t>());
  // A byte without a token is left out of the ids.
  EXPECT_EQ(ends("axxb"), std::vector<size_t>({4}));  // "ab"
  EXPECT_EQ(tokenizer->TokenEnds("ab", std::vector<int32_t>{4, 0}).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_FALSE(tokenizer->TokenEnds("ab", std::vector<int32_t>{99}).ok());
  // What an added token takes away around it.
  file["added_tokens"][0]["lstrip"] = file["added_tokens"][0]["rstrip"] = true;
  tokenizer = Load(file.dump()).value();
  EXPECT_EQ(ends("ab <|end|>  ab"), std::vector<size_t>({2, 10, 14}));
}

TEST_F(TokenizerTest, TextMustBeUtf8) {
  const auto tokenizer = Load(SmallTokenizer().dump()).value();
  std::vector<int32_t> ids = {9};
  const absl::Status status = tokenizer->EncodeAppend("ab\xC3(", true, &ids);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("byte 0xC3 at offset 2"), std::string::npos) << status;
  EXPECT_EQ(ids, std::vector<int32_t>({9}));
  EXPECT_FALSE(tokenizer->EncodeBatch(std::vector<std::string_view>{"a", "\xFF"}, true, 2).ok());
}

TEST_F(TokenizerTest, ThreadsShareOneTokenizer) {
  const auto tokenizer = Load(SmallTokenizer().dump()).value();
  std::vector<std::thread> threads;
  std::vector<int> wrong(8, 0);
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 2000; ++i) {
        const auto ids = tokenizer->Encode(t % 2 ? "ab ab" : "c cab", true).value();
        wrong[t] += ids != (t % 2 ? std::vector<int32_t>{4, 5} : std::vector<int32_t>{2, 3, 2, 4});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(8, 0));
}

TEST_F(TokenizerTest, FilesThatAreNoTokenizer) {
  EXPECT_EQ(Tokenizer::Load(folder_).status().code(), absl::StatusCode::kNotFound);
  ExpectRefused("", "not valid JSON");
  ExpectRefused("hello", "not valid JSON");
  ExpectRefused(std::string("\x80\x02}q\x00.", 6), "not valid JSON");
  ExpectRefused(std::string(100'000, '\0'), "not valid JSON");
  ExpectRefused("{\"model\": {\"vocab\": {\"\xFF\": 0}}}", "not valid JSON");
  ExpectRefused("[]", "expected an object");
  ExpectRefused("3", "expected an object");
  ExpectRefused("{}", "model is missing");
  const std::string whole = SmallTokenizer().dump();
  for (size_t size = 1; size < whole.size(); ++size) {
    EXPECT_FALSE(Load(whole.substr(0, size)).ok()) << size;
  }
  std::filesystem::remove(folder_ + "/tokenizer.json");
  std::filesystem::create_directory(folder_ + "/tokenizer.json");
  EXPECT_NE(Tokenizer::Load(folder_).status().message().find("not a regular file"),
            std::string::npos);
}

TEST_F(TokenizerTest, HugeFiles) {
  for (const char* unit : {"[", "{\"a\":", "[0,", "{\"model\":"}) {
    std::string deep;
    while (deep.size() < 8'000'000) deep += unit;
    ExpectRefused(deep, "");
    ExpectRefused("{\"model\": {\"vocab\": " + deep, "");
    ExpectRefused("{\"model\": {\"merges\": [" + deep, "");
  }
  std::string wide = "[0";
  while (wide.size() < 8'000'000) wide += ",[]";
  ExpectRefused(wide + "]", "more than 1000000 values");
  // Sparse: 70 MB that take no space on disk.
  Write("tokenizer.json", "{");
  std::filesystem::resize_file(folder_ + "/tokenizer.json", 70 << 20);
  EXPECT_EQ(Tokenizer::Load(folder_).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(TokenizerTest, HugeParts) {
  json digits = json::array();
  for (int i = 0; i < 100'000; ++i) digits.push_back({{"type", "Digits"}});
  digits.push_back({{"type", "ByteLevel"}});
  ExpectRefused("/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", digits}},
                "pre_tokenizer has 10000");
  ExpectRefused("/added_tokens/0/content", std::string(5000, 'x'), "has 5000 bytes");
  json tokens = json::array();
  for (int i = 0; i < 10'000; ++i)
    tokens.push_back({{"content", std::string(1000, 'x') + std::to_string(i)}});
  ExpectRefused("/added_tokens", tokens, "all together have");
}

TEST_F(TokenizerTest, BrokenVocabulary) {
  ExpectRefused("/model/vocab", json::object(), "model.vocab is missing or empty");
  ExpectRefused("/model/vocab/c", 1, "model.vocab: id 1 is given to two tokens, \"b\" and \"c\"");
  for (const json& id :
       {json("2"), json(-1), json(2.5), json(nullptr), json(true), json::array(), json::object()}) {
    ExpectRefused("/model/vocab/c", id, "model.vocab[\"c\"] is ");
  }
  ExpectRefused("/model/vocab/c", 2'000'000'000, "ids below");
  ExpectRefused("/model/vocab/c", uint64_t{1} << 63, "ids below");
  std::string twice = SmallTokenizer().dump();
  twice.replace(twice.find("\"c\":2"), 5, "\"c\":2,\"c\":7");
  ExpectRefused(twice, "token \"c\" has two ids, 2 and 7");
}

TEST_F(TokenizerTest, BrokenMerges) {
  ExpectRefused("/model/merges/1", "a c",
                "model.merges[1] joins \"a\" and \"c\", but \"ac\" is not in model.vocab");
  ExpectRefused("/model/merges/0", json({"x", "b"}),
                "model.merges[0] joins \"x\" and \"b\", but \"x\" is not");
  for (const json& merge :
       {json("ab"), json("a b c"), json({"a"}), json({"a", "b", "c"}), json(3), json({"a", 1}),
        json::object(), json(nullptr), json({json::array(), "b"})}) {
    ExpectRefused("/model/merges/1", merge, "model.merges[1] ");
  }
}

TEST_F(TokenizerTest, KindsThatAreNotSupported) {
  ExpectRefused("/model/type", "WordPiece",
                "model.type is WordPiece; only byte-level BPE is supported");
  ExpectRefused("/model/type", 7, "model.type is 7; expected a string");
  ExpectRefused("/model/byte_fallback", true, "model.byte_fallback is true");
  ExpectRefused("/model/dropout", 0.1, "model.dropout is 0.1");
  ExpectRefused("/model/continuing_subword_prefix", "##",
                "model.continuing_subword_prefix is \"##\"");
  ExpectRefused("/model/end_of_word_suffix", "</w>", "model.end_of_word_suffix is \"</w>\"");
  ExpectRefused("/model/unk_token", "<unk>", "model.unk_token \"<unk>\" is not in model.vocab");
  ExpectRefused("/model/ignore_merges", "yes",
                "model.ignore_merges is \"yes\"; expected true or false");
  ExpectRefused("/normalizer", {{"type", "NFKC"}},
                "normalizer.type is NFKC; supported are null, NFC and Sequence");
  ExpectRefused("/pre_tokenizer", nullptr, "pre_tokenizer is null");
  ExpectRefused("/pre_tokenizer", {{"type", "Metaspace"}}, "pre_tokenizer.type is Metaspace");
  ExpectRefused("/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", json::array()}},
                "no ByteLevel");
  ExpectRefused(
      "/pre_tokenizer",
      {{"type", "Sequence"}, {"pretokenizers", {{{"type", "ByteLevel"}}, {{"type", "Digits"}}}}},
      "pre_tokenizer.pretokenizers[1] is Digits and follows ByteLevel");
  ExpectRefused("/pre_tokenizer",
                {{"type", "Split"}, {"pattern", {{"Regex", "("}}}, {"behavior", "Isolated"}},
                "pre_tokenizer.pattern: the pattern does not compile");
  ExpectRefused("/pre_tokenizer",
                {{"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"behavior", "Odd"}},
                "pre_tokenizer.behavior is \"Odd\"");
  ExpectRefused("/decoder", nullptr, "decoder is null");
  ExpectRefused("/decoder", {{"type", "Metaspace"}}, "decoder.type is Metaspace");
  ExpectRefused("/post_processor", {{"type", "BertProcessing"}},
                "post_processor.type is BertProcessing");
  ExpectRefused("/post_processor",
                {{"type", "TemplateProcessing"},
                 {"single", {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}}}},
                 {"special_tokens", {{"<s>", {{"ids", {99}}}}}}},
                "post_processor.special_tokens[\"<s>\"].ids has 99");
  ExpectRefused("/added_tokens/0", "<|end|>", "added_tokens[0] is \"<|end|>\"; expected an object");
  ExpectRefused("/added_tokens/0/content", 3, "added_tokens[0].content is 3; expected a string");
  json unigram = SmallTokenizer();
  unigram["model"] = {{"type", "Unigram"}, {"vocab", json::parse(R"([["a", -1.5], ["b", -2.5]])")}};
  ExpectRefused(unigram.dump(), "model.type is Unigram");
}

TEST_F(TokenizerTest, ConfigurationFiles) {
  Write("tokenizer_config.json",
        R"({"eos_token": "<|end|>", "bos_token": {"content": "<s>", "lstrip": true},
      "pad_token": null, "model_max_length": 1000000000000000019884624838656})");
  auto tokenizer = Load(SmallTokenizer().dump()).value();
  EXPECT_EQ(tokenizer->eos_id(), 6);
  EXPECT_EQ(tokenizer->bos_id(), 7);  // new, so it gets the next id
  EXPECT_EQ(tokenizer->pad_id(), std::nullopt);
  EXPECT_EQ(tokenizer->model_max_length(), std::nullopt);
  EXPECT_EQ(tokenizer->Encode("a  <s>b", true).value(), std::vector<int32_t>({0, 7, 1}));
  // The older file counts where tokenizer_config.json has no added_tokens_decoder.
  Write("special_tokens_map.json", R"({"eos_token": {"content": "a"}, "pad_token": "<|end|>"})");
  tokenizer = Tokenizer::Load(folder_).value();
  EXPECT_EQ(tokenizer->eos_id(), 0);
  EXPECT_EQ(tokenizer->pad_id(), 6);
  Write("tokenizer_config.json",
        R"({"eos_token": "<|end|>", "model_max_length": 512, "added_tokens_decoder":
      {"8": {"content": "<8>", "special": true}, "7": {"content": "<7>"}}})");
  tokenizer = Tokenizer::Load(folder_).value();
  EXPECT_EQ(tokenizer->eos_id(), 6);
  EXPECT_EQ(tokenizer->pad_id(), std::nullopt);
  EXPECT_EQ(tokenizer->TokenToId("<7>"), 7);
  EXPECT_EQ(tokenizer->TokenToId("<8>"), 8);
  EXPECT_EQ(tokenizer->model_max_length(), 512);
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{7, 8}, true), "<7>");
}

TEST_F(TokenizerTest, BrokenConfigurationFiles) {
  for (const auto& [content, what] : std::vector<std::pair<std::string, std::string>>{
           {"{", "not valid JSON"},
           {"[1]", "expected an object"},
           {R"({"eos_token": 3})", "eos_token is 3; expected an object"},
           {R"({"eos_token": {"content": 1}})", "eos_token.content is 1; expected a string"},
           {R"({"added_tokens_decoder": {"x": {"content": "a"}}})",
            "added_tokens_decoder[\"x\"]: the key must"},
           {R"({"added_tokens_decoder": []})", "added_tokens_decoder is an array"},
           {R"({"additional_special_tokens": "x"})",
            "additional_special_tokens is \"x\"; expected a list"},
           {R"({"model_max_length": "x"})", "model_max_length is \"x\"; expected a number"}}) {
    Write("tokenizer_config.json", content);
    const absl::Status status = Load(SmallTokenizer().dump()).status();
    EXPECT_NE(status.message().find("tokenizer_config.json: "), std::string::npos) << status;
    EXPECT_NE(status.message().find(what), std::string::npos) << status;
  }
}

}  // namespace
}  // namespace lathe
