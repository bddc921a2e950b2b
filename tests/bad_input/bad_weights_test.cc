// Broken and hostile weight files, and indexes of them.

#include <sys/stat.h>

#include <cstdint>
#include <cstring>
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

constexpr char kNorm[] = "model.norm.weight";
constexpr char kHead[] = "lm_head.weight";

// A model folder with weights, made once by a run of the program itself.
class BadWeightsTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    source_ = new std::string(NewFolder());
    tiny_ = new TinyPretraining(*source_ + "/inputs");
    const ProgramEnd made = RunProgram(
        kPretrain, {.arguments = tiny_->Flags(*source_ + "/model",
                                              {"--max_steps", "1", "--save_strategy", "no"})});
    ASSERT_EQ(made.exit_code, 0) << made.Text();
  }

  void SetUp() override { fs::copy(*source_ + "/model", model_, fs::copy_options::recursive); }

  std::vector<std::string> Flags(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> flags = {"--model_name_or_path", model_, "--tokenizer_name", model_};
    flags.insert(flags.end(), more.begin(), more.end());
    return tiny_->Flags(out_, flags);
  }

  void Expect(const std::vector<std::string>& words) const {
    ExpectRefusal(RunProgram(kPretrain, {.arguments = Flags()}), words, out_);
  }

  void RestoreWeights() const {
    fs::copy_file(*source_ + "/model/model.safetensors", weights_,
                  fs::copy_options::overwrite_existing);
  }

  void WriteHeader(const std::string& header, const std::string& data) const {
    const uint64_t size = header.size();
    const std::string length(reinterpret_cast<const char*>(&size), sizeof size);
    WriteFile(weights_, absl::StrCat(length, header, data));
  }

  // Changes the header of the good weights; the data stay.
  void ChangeHeader(const std::function<void(Json&)>& change) const {
    const std::string bytes = ReadFile(*source_ + "/model/model.safetensors");
    uint64_t size;
    std::memcpy(&size, bytes.data(), sizeof size);
    Json header = Json::parse(bytes.substr(8, size));
    change(header);
    WriteHeader(header.dump(), bytes.substr(8 + size));
  }

  static std::string* source_;
  static TinyPretraining* tiny_;
  const std::string folder_ = NewFolder();
  const std::string model_ = folder_ + "/model";
  const std::string weights_ = model_ + "/model.safetensors";
  const std::string out_ = folder_ + "/out";
};

std::string* BadWeightsTest::source_ = nullptr;
TinyPretraining* BadWeightsTest::tiny_ = nullptr;

TEST_F(BadWeightsTest, GoodOnesTrain) {
  const ProgramEnd end = RunProgram(kPretrain, {.arguments = Flags({"--max_steps", "1"})});
  EXPECT_EQ(end.exit_code, 0) << end.Text();
}

TEST_F(BadWeightsTest, Unreadable) {
  fs::remove(weights_);
  Expect({model_, "model.safetensors"});
  fs::create_directory(weights_);
  Expect({"model.safetensors"});
  fs::remove(weights_);
  ASSERT_EQ(mkfifo(weights_.c_str(), 0600), 0);
  Expect({"model.safetensors"});
  fs::remove(weights_);
  fs::create_symlink("model.safetensors", weights_);
  Expect({"model.safetensors"});
}

TEST_F(BadWeightsTest, PickledOnly) {
  fs::rename(weights_, model_ + "/pytorch_model.bin");
  Expect({model_, "pytorch_model.bin", "save_pretrained"});
}

TEST_F(BadWeightsTest, Truncated) {
  const uint64_t size = fs::file_size(weights_);
  for (const uint64_t bytes :
       {uint64_t{0}, uint64_t{7}, uint64_t{8}, uint64_t{100}, size / 2, size - 1, size + 1}) {
    RestoreWeights();
    fs::resize_file(weights_, bytes);
    Expect({weights_});
  }
}

TEST_F(BadWeightsTest, HeaderLongerThanTheFile) {
  for (const uint64_t length :
       {fs::file_size(weights_), uint64_t{1} << 40, uint64_t{1} << 63, ~uint64_t{0}}) {
    RestoreWeights();
    std::string bytes = ReadFile(weights_);
    std::memcpy(bytes.data(), &length, sizeof length);
    WriteFile(weights_, bytes);
    Expect({weights_, "header"});
  }
}

TEST_F(BadWeightsTest, HeaderIsNoJson) {
  for (const std::string& header :
       {std::string("{\"a\": "), std::string(1 << 20, '['), std::string("[]"),
        std::string("{\"a\xff\": {\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}")}) {
    WriteHeader(header, "1234");
    Expect({weights_});
  }
}

TEST_F(BadWeightsTest, HostileHeader) {
  static constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  const std::vector<std::pair<std::string, std::function<void(Json&)>>> changes = {
      {"overlap",
       [](Json& header) {
         header[kHead]["data_offsets"] = header["model.embed_tokens.weight"]["data_offsets"];
       }},
      {"hole before it",
       [](Json& header) {
         header[kNorm]["data_offsets"][0] = header[kNorm]["data_offsets"][0].get<int64_t>() + 4;
         header[kNorm]["shape"][0] = 15;
       }},
      {"hole", [](Json& header) { header.erase(kNorm); }},
      {"overflow", [](Json& header) { header[kNorm]["shape"] = {int64_t{1} << 62, 16}; }},
      {"overflow to 0",
       [](Json& header) { header[kNorm]["shape"] = {int64_t{1} << 32, int64_t{1} << 32}; }},
      {"negative size", [](Json& header) { header[kNorm]["shape"] = {-16}; }},
      {"fraction", [](Json& header) { header[kNorm]["shape"] = {16.5}; }},
      {"negative offset", [](Json& header) { header[kNorm]["data_offsets"][0] = -64; }},
      {"reversed",
       [](Json& header) {
         std::swap(header[kNorm]["data_offsets"][0], header[kNorm]["data_offsets"][1]);
       }},
      {"past the end",
       [](Json& header) { header[kNorm]["data_offsets"] = {1 << 30, (1 << 30) + 64}; }},
      {"huge offset", [](Json& header) { header[kNorm]["data_offsets"] = {kMost - 64, kMost}; }},
      {"dtype", [](Json& header) { header[kNorm]["dtype"] = "F33"; }},
      {"dtype kind", [](Json& header) { header[kNorm]["dtype"] = 3; }},
      {"no shape", [](Json& header) { header[kNorm].erase("shape"); }},
      {"a string", [](Json& header) { header[kNorm] = "weight"; }},
      {"many dims", [](Json& header) { header[kNorm]["shape"] = std::vector<int>(1000, 1); }},
  };
  for (const auto& [what, change] : changes) {
    SCOPED_TRACE(what);
    ChangeHeader(change);
    Expect({weights_});
  }
}

TEST_F(BadWeightsTest, MissingSurplusAndMisshapen) {
  ChangeHeader([](Json& header) {
    header["model.other.weight"] = header[kNorm];
    header.erase(kNorm);
    std::swap(header[kHead]["shape"][0], header[kHead]["shape"][1]);
  });
  Expect({weights_, "missing: model.norm.weight", "surplus: model.other.weight", "lm_head.weight",
          "[300, 16]", "[16, 300]"});
}

TEST_F(BadWeightsTest, DtypeThatHoldsNoWeights) {
  ChangeHeader([](Json& header) {
    header[kNorm]["dtype"] = "C64";
    header[kNorm]["shape"] = {8};
  });
  Expect({weights_, kNorm});
}

TEST_F(BadWeightsTest, QuantisedWeights) {
  ChangeHeader([](Json& header) { header[kNorm]["dtype"] = "I32"; });
  Expect({weights_, kNorm, "I32"});
}

TEST_F(BadWeightsTest, Index) {
  fs::rename(weights_, model_ + "/shard.safetensors");
  const auto index = [&](const std::string& text) { WriteFile(weights_ + ".index.json", text); };
  const auto map_to = [&](const std::string& file) {
    return Json{{"weight_map", {{kNorm, file}, {kHead, "shard.safetensors"}}}}.dump();
  };
  for (const std::string& text :
       {std::string(), std::string("[]"), std::string("{}"), std::string("{\"weight_map\": 3}"),
        std::string("{\"weight_map\": {\"a\": 3}}"), std::string(1 << 20, '[')}) {
    index(text);
    Expect({"model.safetensors.index.json"});
  }
  for (const char* file :
       {"../shard.safetensors", "/etc/passwd", "/etc/x.safetensors", "a/../../x.safetensors", ""}) {
    index(map_to(file));
    Expect({"model.safetensors.index.json", kNorm});
  }
  index(map_to("absent.safetensors"));
  Expect({"model.safetensors.index.json", "absent.safetensors"});
  index(map_to("shard.safetensors"));  // which holds more than the index says
  Expect({"model.safetensors.index.json", "shard.safetensors"});
}

}  // namespace
}  // namespace lathe
