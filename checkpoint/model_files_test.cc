#include "lathe/checkpoint/model_files.h"

#include <string>

#include "ATen/ops/arange.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/zeros.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/checkpoint/atomic_file.h"
#include "lathe/checkpoint/safetensors_writer.h"
#include "lathe/checkpoint/thread_ranks.h"

namespace lathe {
namespace {

void Write(const std::string& path, std::string_view bytes) {
  ASSERT_TRUE(WriteFileAtomically(path, bytes).ok());
}

std::string Error(const std::string& folder, std::string_view stem = "model") {
  const absl::Status status = ModelFiles::Open(folder, stem).status();
  EXPECT_FALSE(status.ok());
  EXPECT_FALSE(absl::StrContains(status.message(), "\n")) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), folder)) << status;
  return std::string(status.message());
}

// A folder with two shards, a and b in the first and c in the second, and this weight_map.
std::string Sharded(std::string_view weight_map) {
  const std::string folder = FreshFolder();
  EXPECT_TRUE(WriteSafetensorsFile(folder + "/1.safetensors",
                                   {{"a", at::arange(4, at::kFloat)}, {"b", at::zeros({2})}})
                  .ok());
  EXPECT_TRUE(WriteSafetensorsFile(folder + "/2.safetensors", {{"c", at::zeros({3})}}).ok());
  Write(folder + "/model.safetensors.index.json",
        absl::StrCat(R"({"metadata": {"total_size": 36, "x": [1, {"y": null}]}, "weight_map": )",
                     weight_map, "}"));
  return folder;
}

TEST(ModelFilesTest, SingleFile) {
  const std::string folder = FreshFolder();
  const at::Tensor a = at::arange(6, at::kFloat).view({2, 3});
  ASSERT_TRUE(WriteSafetensorsFile(folder + "/model.safetensors", {{"a", a}}).ok());
  ASSERT_TRUE(WriteSafetensorsFile(folder + "/optimizer.safetensors", {{"o", a}}).ok());
  const ModelFiles files = *ModelFiles::Open(folder);
  EXPECT_TRUE(at::equal(*files.Load("a"), a));
  EXPECT_TRUE(at::equal(*files.View("a"), a));
  EXPECT_EQ(files.Find("o"), nullptr);
  EXPECT_FALSE(files.Load("o").ok());
  at::Tensor row = at::zeros({1, 3});
  ASSERT_TRUE(files.Read("a", {{1, 0}, {1, 3}}, row).ok());
  EXPECT_TRUE(at::equal(row[0], a[1]));
  EXPECT_NE(ModelFiles::Open(folder, "optimizer")->Find("o"), nullptr);
}

TEST(ModelFilesTest, Shards) {
  ModelFiles files = *ModelFiles::Open(
      Sharded(R"({"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors"})"));
  const ModelFiles moved = std::move(files);
  EXPECT_EQ(moved.tensors().size(), 3u);
  EXPECT_TRUE(at::equal(*moved.Load("a"), at::arange(4, at::kFloat)));
  EXPECT_EQ(moved.Load("c")->numel(), 3);
}

TEST(ModelFilesTest, IndexesThatLieAreNamed) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {R"({"a":"../1.safetensors"})", "tensor 'a' lies in '../1.safetensors', expected the name"},
      {R"({"a":"/etc/1.safetensors"})", "tensor 'a' lies in '/etc/1.safetensors'"},
      {R"({"a":"x/1.safetensors"})", "tensor 'a' lies in 'x/1.safetensors'"},
      {R"({"a":".."})", "tensor 'a' lies in '..'"},
      {R"({"a":""})", "tensor 'a' lies in ''"},
      {R"({"a":"1.safetensors\u0000.safetensors"})", "tensor 'a' lies in '1.safetensors\\x00"},
      {R"({"a":"pytorch_model.bin"})", "tensor 'a' lies in 'pytorch_model.bin'"},
      {R"({"a":"1.safetensors","b":"1.safetensors","c":"3.safetensors"})", "3.safetensors that it"},
      {R"({"a":"1.safetensors","b":"1.safetensors","c":"2.safetensors","d":"2.safetensors"})",
       "tensor 'd' should be in 2.safetensors, which does not have it"},
      {R"({"a":"1.safetensors","c":"2.safetensors"})", "tensor 'b' is in "},
      {R"({"a":"1.safetensors","b":"2.safetensors","c":"2.safetensors"})", "index says 2.safetens"},
      {R"({"a":"1.safetensors","a":"1.safetensors"})", "tensor 'a' appears twice in weight_map"},
      {R"({"a":1})", "weight_map is not an object of file names"},
      {R"({"a":{"b":"1.safetensors"}})", "weight_map is not an object of file names"},
      {R"(["a"])", "weight_map is not an object of file names"},
      {R"("a")", "weight_map is not an object of file names"},
      {R"({}, "weight_map": {})", "two weight_maps"},
      {R"({)", "not valid UTF-8 JSON"},
  };
  for (const auto& [weight_map, expected] : cases) {
    const std::string error = Error(Sharded(weight_map));
    EXPECT_TRUE(absl::StrContains(error, expected)) << error;
  }
  for (const auto& [json, expected] : {std::pair{"[]", "not an object with a weight_map"},
                                       {"3", "not an object with a weight_map"},
                                       {"{}", "no weight_map"},
                                       {R"({"metadata": {"a": "b"}})", "no weight_map"}}) {
    const std::string folder = FreshFolder();
    Write(folder + "/model.safetensors.index.json", json);
    const std::string error = Error(folder);
    EXPECT_TRUE(absl::StrContains(error, expected)) << error;
  }
  const std::string deep = FreshFolder();
  Write(deep + "/model.safetensors.index.json", "{\"metadata\":" + std::string(1 << 20, '['));
  EXPECT_TRUE(absl::StrContains(Error(deep), "index.json: it is not an object"));
}

TEST(ModelFilesTest, ATensorInTwoShardsIsNamed) {
  const std::string folder = FreshFolder();
  ASSERT_TRUE(WriteSafetensorsFile(folder + "/1.safetensors", {{"a", at::zeros({2})}}).ok());
  ASSERT_TRUE(WriteSafetensorsFile(folder + "/2.safetensors",
                                   {{"a", at::zeros({2})}, {"b", at::zeros({2})}})
                  .ok());
  Write(folder + "/model.safetensors.index.json",
        R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})");
  EXPECT_TRUE(absl::StrContains(Error(folder), "tensor 'a' is in two shards"));
}

TEST(ModelFilesTest, PickledOrAbsentWeights) {
  const std::string folder = FreshFolder();
  Write(folder + "/config.json", "{}");
  Write(folder + "/training_args.bin", "x");
  EXPECT_TRUE(absl::StrContains(Error(folder), "has no weights: expected model.safetensors or"));
  Write(folder + "/pytorch_model.bin", "x");
  const std::string error = Error(folder);
  EXPECT_TRUE(absl::StrContains(error, "only pickled weights (pytorch_model.bin)")) << error;
  EXPECT_TRUE(absl::StrContains(error, "save_pretrained('" + folder + "')")) << error;
  EXPECT_FALSE(ModelFiles::Open(folder + "/absent").ok());
  EXPECT_FALSE(ModelFiles::Open(folder + "/config.json").ok());
}

}  // namespace
}  // namespace lathe
