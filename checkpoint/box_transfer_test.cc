#include "lathe/checkpoint/box_transfer.h"

#include <unistd.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "ATen/ops/arange.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/zeros.h"
#include "gtest/gtest.h"
#include "lathe/checkpoint/thread_ranks.h"

namespace lathe {
namespace {

constexpr uint64_t kBase = 24;

at::Tensor Slice(const at::Tensor& whole, const Box& box) {
  at::Tensor part = whole;
  for (int dim = 0; dim < box.num_dims(); ++dim) {
    part = part.narrow(dim, box.offset[dim], box.length[dim]);
  }
  return part;
}

Box RandomBox(const std::vector<int64_t>& shape, std::mt19937_64& random) {
  Box box = Box::Whole(shape);
  for (size_t dim = 0; dim < shape.size(); ++dim) {
    box.offset[dim] = random() % shape[dim];
    box.length[dim] = 1 + random() % (shape[dim] - box.offset[dim]);
    if (random() % 3 == 0) box.offset[dim] = 0, box.length[dim] = shape[dim];
  }
  return box;
}

// A file that holds `values` at kBase.
PosixFile WriteWhole(const std::string& path, const at::Tensor& values) {
  PosixFile file = *PosixFile::Create(path);
  const std::string_view bytes(static_cast<const char*>(values.const_data_ptr()), values.nbytes());
  EXPECT_TRUE(file.WriteAt(kBase, bytes).ok());
  return *PosixFile::OpenForReading(path);
}

TEST(BoxTransferTest, ReadsRandomBoxesIntoRandomStrides) {
  std::mt19937_64 random(2);
  const std::string folder = FreshFolder();
  // The large ones are cut (more than 1 MiB of span), the wide ones have gaps that are not read
  // through.
  const std::vector<std::vector<int64_t>> shapes = {
      {},         {7},           {5, 6},       {3, 4, 5},   {2, 3, 4, 5},
      {3, 20000}, {40, 3, 9000}, {1200, 1100}, {2, 1500000}};
  for (size_t s = 0; s < shapes.size(); ++s) {
    const std::vector<int64_t>& shape = shapes[s];
    const at::Tensor whole = at::arange(Box::Whole(shape).Volume(), at::kFloat).view(shape);
    const PosixFile file = WriteWhole(folder + "/" + std::to_string(s), whole);
    const StoredTensor stored{.dtype = at::kFloat, .shape = shape, .offset = kBase};
    for (int round = 0; round < 60; ++round) {
      const Box box = RandomBox(shape, random);
      const at::Tensor expected = Slice(whole, box);
      // Contiguous, transposed, and with other elements between; the same dtype and a wider one.
      at::Tensor target = at::zeros(box.length, random() % 2 == 0 ? at::kFloat : at::kDouble);
      if (box.num_dims() >= 2 && random() % 3 == 0) {
        std::vector<int64_t> turned = box.length;
        std::swap(turned.front(), turned.back());
        target = at::zeros(turned, target.scalar_type()).transpose(0, box.num_dims() - 1);
      } else if (box.num_dims() >= 1 && random() % 3 == 0) {
        std::vector<int64_t> wider = box.length;
        wider.back() *= 2;
        target = at::zeros(wider, target.scalar_type()).slice(-1, 1, wider.back(), 2);
      }
      const absl::Status status = ReadBox(file, stored, box, target);
      ASSERT_TRUE(status.ok()) << status;
      EXPECT_TRUE(at::equal(target.to(at::kFloat), expected)) << box.ToString();
    }
  }
}

TEST(BoxTransferTest, BoxesWrittenInAnyOrderGiveTheFileAndItsChecksum) {
  std::mt19937_64 random(3);
  const std::string folder = FreshFolder();
  const std::vector<std::vector<int64_t>> shapes = {{}, {9}, {6, 8}, {3, 5, 4}, {1500, 1000}};
  for (size_t s = 0; s < shapes.size(); ++s) {
    const at::Tensor whole =
        at::arange(Box::Whole(shapes[s]).Volume(), at::kDouble).view(shapes[s]).div(4);
    const StoredTensor stored{.dtype = at::kFloat, .shape = shapes[s], .offset = kBase};
    const std::string path = folder + "/" + std::to_string(s);
    const PosixFile file = *PosixFile::Create(path);
    ASSERT_TRUE(file.WriteAt(0, std::string(kBase, 'x')).ok());
    PiecewiseCrc32c checksum(kBase + whole.numel() * 4);
    checksum.Add(0, std::string(kBase, 'x'));
    // Two cuts of a random dim give three boxes.
    std::vector<Box> boxes = {Box::Whole(shapes[s])};
    for (int cut = 0; cut < 2 && !shapes[s].empty(); ++cut) {
      Box& box = boxes[random() % boxes.size()];
      const size_t dim = random() % shapes[s].size();
      if (box.length[dim] < 2) continue;
      const int64_t at = 1 + random() % (box.length[dim] - 1);
      Box rest = box;
      rest.offset[dim] += at;
      rest.length[dim] -= at;
      box.length[dim] = at;
      boxes.push_back(rest);
    }
    std::shuffle(boxes.begin(), boxes.end(), random);
    for (const Box& box : boxes) {
      const absl::Status status = WriteBox(file, stored, box, Slice(whole, box), checksum);
      ASSERT_TRUE(status.ok()) << status;
    }
    EXPECT_EQ(checksum.num_bytes(), checksum.file_bytes());
    const std::string content = *ReadSmallFile(path, 1 << 30);
    EXPECT_EQ(checksum.Total(), absl::ComputeCrc32c(content));
    at::Tensor back = at::empty(shapes[s], at::kFloat);
    ASSERT_TRUE(
        ReadBox(*PosixFile::OpenForReading(path), stored, Box::Whole(shapes[s]), back).ok());
    EXPECT_TRUE(at::equal(back, whole.to(at::kFloat)));
  }
}

TEST(BoxTransferTest, RefusesWhatDoesNotFit) {
  const std::string path = FreshFolder() + "/file";
  const PosixFile file = WriteWhole(path, at::zeros({4, 4}, at::kFloat));
  const StoredTensor stored{.dtype = at::kFloat, .shape = {4, 4}, .offset = kBase};
  const auto code = [&](const Box& box, const at::Tensor& target) {
    return ReadBox(file, stored, box, target).code();
  };
  const auto invalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(code({{0, 0}, {5, 4}}, at::zeros({5, 4})), invalid);
  EXPECT_EQ(code({{-1, 0}, {2, 4}}, at::zeros({2, 4})), invalid);
  EXPECT_EQ(code({{0}, {4}}, at::zeros({4})), invalid);
  EXPECT_EQ(code({{0, 0}, {4, 4}}, at::zeros({4, 3})), invalid);
  EXPECT_EQ(code({{0, 0}, {4, 4}}, at::zeros({4, 4}, at::kLong)), invalid);
  EXPECT_EQ(code({{0, 0}, {4, 4}}, at::zeros({4, 4}, at::kHalf)), absl::StatusCode::kOk);
}

TEST(BoxTransferTest, AFileThatShrinksIsAnErrorNotASignal) {
  const std::string path = FreshFolder() + "/file";
  const PosixFile file = WriteWhole(path, at::zeros({4, 4}, at::kFloat));
  const StoredTensor stored{.dtype = at::kFloat, .shape = {4, 4}, .offset = kBase};
  ASSERT_EQ(truncate(path.c_str(), kBase + 20), 0);
  at::Tensor target = at::zeros({4, 4});
  EXPECT_EQ(ReadBox(file, stored, Box::Whole({4, 4}), target).code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(ReadBox(file, stored, {{1, 0}, {1, 1}}, target[0].narrow(0, 0, 1).view({1, 1})).ok());
}

TEST(BoxTransferTest, FillsALeafThatRequiresGradientAndKeepsBooleansClean) {
  const std::string folder = FreshFolder();
  const PosixFile floats = WriteWhole(folder + "/floats", at::arange(6, at::kFloat));
  at::Tensor leaf = at::zeros({6}, at::kDouble).set_requires_grad(true);
  ASSERT_TRUE(ReadBox(floats, {at::kFloat, {6}, kBase}, {{0}, {6}}, leaf).ok());
  EXPECT_TRUE(leaf.is_leaf());
  EXPECT_EQ(leaf.sum().item<double>(), 15);

  const PosixFile bytes = WriteWhole(folder + "/bytes", at::arange(4, at::kByte));
  for (const at::ScalarType dtype : {at::kBool, at::kFloat}) {
    at::Tensor target = at::zeros({4}, dtype);
    ASSERT_TRUE(ReadBox(bytes, {at::kBool, {4}, kBase}, {{0}, {4}}, target).ok());
    EXPECT_EQ(target.to(at::kLong).sum().item<int64_t>(), 3);  // bytes 1, 2 and 3 are all true
  }
}

}  // namespace
}  // namespace lathe
