#include "lathe/checkpoint/safetensors_writer.h"

#include <string>
#include <vector>

#include "ATen/ops/arange.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/full.h"
#include "ATen/ops/zeros.h"
#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "lathe/checkpoint/safetensors.h"
#include "lathe/checkpoint/thread_ranks.h"

namespace lathe {
namespace {

using Tensors = std::map<std::string, at::Tensor, std::less<>>;

constexpr char kGolden[] = "tests/goldens/safetensors/python.safetensors";

// The tensors of tests/goldens/safetensors/make.py.
Tensors GoldenTensors() {
  const std::pair<const char*, at::ScalarType> dtypes[] = {
      {"f64", at::kDouble}, {"f32", at::kFloat}, {"f16", at::kHalf},  {"bf16", at::kBFloat16},
      {"i64", at::kLong},   {"i32", at::kInt},   {"i16", at::kShort}, {"i8", at::kChar},
      {"u8", at::kByte},    {"bool", at::kBool}};
  Tensors tensors;
  for (const auto& [name, dtype] : dtypes) {
    at::Tensor values = at::arange(6, at::kDouble);
    if (at::isFloatingType(dtype)) {
      values = values.mul(0.5).sub(1.25);
    } else if (dtype == at::kBool) {
      values = values.remainder(3).eq(0);
    } else if (dtype != at::kByte) {
      values = values.sub(3);
    }
    tensors[std::string("model.") + name + ".weight"] = values.to(dtype).view({2, 3});
  }
  tensors["scalar"] = at::full({}, -7.5, at::kFloat);
  tensors["empty"] = at::zeros({0, 3}, at::kBFloat16);
  tensors["odd"] = at::arange(3, at::kLong).add(1).to(at::kChar);
  tensors["odd"][1] = -2;
  tensors["quote \" slash \\ newline \n bell \a and 中文"] = at::arange(2, at::kFloat).add(1);
  return tensors;
}

TEST(SafetensorsWriterTest, ReadsWhatTheReferenceImplementationWrote) {
  const auto file = SafetensorsFile::Open(kGolden);
  ASSERT_TRUE(file.ok()) << file.status();
  const Tensors expected = GoldenTensors();
  EXPECT_EQ(file->tensors().size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    const auto loaded = file->Load(name);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_EQ(loaded->scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(at::equal(*loaded, tensor)) << name;
  }
}

TEST(SafetensorsWriterTest, WritesTheBytesOfTheReferenceImplementation) {
  const std::string path = FreshFolder() + "/lathe.safetensors";
  const absl::Status status = WriteSafetensorsFile(path, GoldenTensors());
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(*ReadSmallFile(path, 1 << 20), *ReadSmallFile(kGolden, 1 << 20));
}

TEST(SafetensorsWriterTest, RoundsToTheFilesDtype) {
  const std::string path = FreshFolder() + "/file";
  const SafetensorsLayout layout =
      *SafetensorsLayout::Create({{"w", at::kBFloat16, {1000}}, {"i", at::kInt, {2}}});
  const at::Tensor master = at::arange(1000, at::kFloat).mul(1.001).sub(300);
  {
    const PosixFile file = *PosixFile::Create(path);
    PiecewiseCrc32c checksum(layout.file_bytes());
    ASSERT_TRUE(file.WriteAt(0, layout.header()).ok());
    ASSERT_TRUE(layout.WriteBox(file, "w", {{0}, {1000}}, master, checksum).ok());
    EXPECT_TRUE(absl::StrContains(
        layout.WriteBox(file, "i", {{0}, {2}}, at::zeros({2}), checksum).message(), "tensor 'i'"));
    EXPECT_FALSE(layout.WriteBox(file, "x", {{0}, {2}}, at::zeros({2}), checksum).ok());
    ASSERT_TRUE(layout.WriteBox(file, "i", {{0}, {2}}, at::zeros({2}, at::kLong), checksum).ok());
  }
  EXPECT_TRUE(at::equal(*SafetensorsFile::Open(path)->Load("w"), master.to(at::kBFloat16)));
}

TEST(SafetensorsWriterTest, RefusesWhatTheFormatCannotHold) {
  const auto message = [](std::vector<TensorSpec> specs) {
    return std::string(SafetensorsLayout::Create(specs).status().message());
  };
  EXPECT_TRUE(
      absl::StrContains(message({{"a", at::kFloat, {1}}, {"a", at::kFloat, {1}}}), "named 'a'"));
  // The two of one name need not be neighbours in the order of the file.
  EXPECT_TRUE(
      absl::StrContains(message({{"a", at::kFloat, {1}}, {"a", at::kInt, {1}}}), "named 'a'"));
  EXPECT_TRUE(absl::StrContains(message({{"__metadata__", at::kFloat, {1}}}), "__metadata__"));
  EXPECT_TRUE(absl::StrContains(message({{"a\xff", at::kFloat, {1}}}), "not UTF-8"));
  EXPECT_TRUE(absl::StrContains(message({{"a", at::kQInt8, {1}}}), "QInt8"));
  EXPECT_TRUE(absl::StrContains(message({{"a", at::kFloat, {-1}}}), "impossible shape"));
  EXPECT_TRUE(absl::StrContains(message({{"a", at::kFloat, {1LL << 61}}}), "impossible shape"));
  EXPECT_TRUE(absl::StrContains(message({{"a", at::kByte, {INT64_MAX - 1}}, {"b", at::kByte, {2}}}),
                                "larger than any file"));
}

TEST(SafetensorsWriterTest, ShardsInNaturalOrder) {
  std::vector<TensorSpec> specs;
  for (const int layer : {10, 2, 1}) {
    specs.push_back({"layers." + std::to_string(layer) + ".w", at::kFloat, {10}});  // 40 bytes
  }
  specs.push_back({"embed", at::kFloat, {100}});  // 400 bytes
  specs.push_back({"norm", at::kHalf, {3}});
  const ShardedLayout one = *PlanShards(specs, "model", 1000);
  EXPECT_EQ(one.files.size(), 1u);
  EXPECT_EQ(one.files[0].name, "model.safetensors");
  EXPECT_EQ(one.index_json, "");

  const ShardedLayout plan = *PlanShards(specs, "model", 80);
  ASSERT_EQ(plan.files.size(), 3u);
  EXPECT_EQ(plan.files[0].name, "model-00001-of-00003.safetensors");
  EXPECT_EQ(plan.file_of_tensor.at("embed"), 0);
  EXPECT_EQ(plan.file_of_tensor.at("layers.1.w"), 1);
  EXPECT_EQ(plan.file_of_tensor.at("layers.2.w"), 1);
  EXPECT_EQ(plan.file_of_tensor.at("layers.10.w"), 2);
  EXPECT_EQ(plan.file_of_tensor.at("norm"), 2);
  EXPECT_EQ(plan.index_name, "model.safetensors.index.json");
  // As transformers writes it: json.dumps(index, indent=2, sort_keys=True) + "\n".
  EXPECT_EQ(plan.index_json, R"({
  "metadata": {
    "total_parameters": 133,
    "total_size": 526
  },
  "weight_map": {
    "embed": "model-00001-of-00003.safetensors",
    "layers.1.w": "model-00002-of-00003.safetensors",
    "layers.10.w": "model-00003-of-00003.safetensors",
    "layers.2.w": "model-00002-of-00003.safetensors",
    "norm": "model-00003-of-00003.safetensors"
  }
}
)");

  EXPECT_EQ(PlanShards({}, "model")->files.size(), 1u);
  specs.push_back({"norm", at::kHalf, {3}});
  EXPECT_FALSE(PlanShards(specs, "model", 1).ok());
}

TEST(SafetensorsWriterTest, AFailedWriteLeavesTheOldFile) {
  const std::string folder = FreshFolder();
  const std::string path = folder + "/file";
  ASSERT_TRUE(WriteSafetensorsFile(path, {{"a", at::zeros({3})}}).ok());
  const std::string before = *ReadSmallFile(path, 1000);
  // More than any disk.
  EXPECT_FALSE(WriteSafetensorsFile(path, {{"a", at::zeros({1}).expand({int64_t{1} << 58})}}).ok());
  EXPECT_EQ(*ReadSmallFile(path, 1000), before);
  EXPECT_EQ(ListDirectory(folder)->size(), 1u);
}

}  // namespace
}  // namespace lathe
