#include "lathe/checkpoint/checkpoint.h"

#include <algorithm>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "ATen/ops/arange.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/full.h"
#include "ATen/ops/zeros.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "lathe/checkpoint/manifest.h"
#include "lathe/checkpoint/thread_ranks.h"

namespace lathe {
namespace {

at::Tensor Slice(const at::Tensor& whole, const Box& box) {
  at::Tensor part = whole;
  for (int dim = 0; dim < box.num_dims(); ++dim) {
    part = part.narrow(dim, box.offset[dim], box.length[dim]);
  }
  return part;
}

struct Logical {
  std::string name;
  at::ScalarType file_dtype;
  at::Tensor values;  // exact in the file's dtype
};

std::vector<Logical> SomeModel() {
  return {
      {"scalar", at::kFloat, at::full({}, 3.5)},
      {"empty", at::kHalf, at::zeros({0, 4})},
      {"bias", at::kBFloat16, at::arange(-8, 9, at::kFloat)},
      {"layers.2.w", at::kFloat, at::arange(12 * 20, at::kFloat).view({12, 20})},
      {"layers.10.w", at::kHalf, at::arange(30 * 7, at::kFloat).view({30, 7})},
      {"conv", at::kDouble, at::arange(5 * 4 * 3 * 2, at::kFloat).view({5, 4, 3, 2})},
      {"steps", at::kLong, at::arange(9, at::kLong)},
  };
}

// Cuts `whole` into up to `most` random boxes.
std::vector<Box> RandomPartition(const std::vector<int64_t>& shape, int most,
                                 std::mt19937& random) {
  std::vector<Box> boxes = {Box::Whole(shape)};
  for (int i = 1; i < most && !shape.empty(); ++i) {
    Box& box = boxes[random() % boxes.size()];
    const size_t dim = random() % shape.size();
    if (box.length[dim] < 2) continue;
    Box rest = box;
    box.length[dim] = 1 + random() % (box.length[dim] - 1);
    rest.offset[dim] += box.length[dim];
    rest.length[dim] -= box.length[dim];
    boxes.push_back(rest);
  }
  return boxes;
}

// Every rank's tensors for a random layout: boxes dealt to random ranks, some held by a second rank
// as a replica, in local memory with padding around and in another dtype.
std::vector<std::vector<NamedTensor>> RandomLayout(const std::vector<Logical>& model, int num_ranks,
                                                   bool filled, std::mt19937& random) {
  std::vector<std::vector<NamedTensor>> ranks(num_ranks);
  for (const Logical& logical : model) {
    const std::vector<int64_t> shape = logical.values.sizes().vec();
    std::vector<NamedTensor> of_rank(
        num_ranks, {.name = logical.name, .full_shape = shape, .file_dtype = logical.file_dtype});
    std::vector<NamedTensor> replicas = of_rank;
    for (const Box& box : RandomPartition(shape, 1 + random() % 6, random)) {
      const auto piece = [&] {
        std::vector<int64_t> padded = box.length;
        for (int64_t& length : padded) length += random() % 3;
        const bool wide = logical.values.is_floating_point() && random() % 2 == 0;
        const at::Tensor memory =
            at::full(padded, -77, wide ? at::kDouble : logical.values.scalar_type());
        TensorPiece result{.box = box, .local = Slice(memory, Box::Whole(box.length))};
        if (filled) result.local.copy_(Slice(logical.values, box));
        return result;
      };
      of_rank[random() % num_ranks].pieces.push_back(piece());
      if (random() % 3 == 0) replicas[random() % num_ranks].pieces.push_back(piece());
    }
    for (int rank = 0; rank < num_ranks; ++rank) {
      // A rank without a part may list the tensor or not.
      if (!of_rank[rank].pieces.empty() || random() % 2 == 0) ranks[rank].push_back(of_rank[rank]);
      replicas[rank].replica = 1;
      if (!replicas[rank].pieces.empty()) ranks[rank].push_back(replicas[rank]);
    }
  }
  for (auto& tensors : ranks) std::shuffle(tensors.begin(), tensors.end(), random);
  return ranks;
}

void Save(const std::string& parent, const std::vector<std::vector<NamedTensor>>& ranks,
          uint64_t max_shard_bytes) {
  RunThreadRanks(static_cast<int>(ranks.size()), [&](const RankGroup& group) {
    auto directory = *AtomicDirectory::Create(parent, "checkpoint-1", group);
    absl::Status status = SaveTensors(*directory, "model", ranks[group.rank], max_shard_bytes);
    EXPECT_TRUE(status.ok()) << status;
    status = directory->Commit();
    EXPECT_TRUE(status.ok()) << status;
  });
}

std::string WholeFolder(const std::string& path) {
  std::string content;
  const std::vector<std::string> names = *ListDirectory(path);
  for (const std::string& name : names) {
    absl::StrAppend(&content, name, "\n", *ReadSmallFile(JoinPath(path, name), 1 << 20), "\n");
  }
  return content;
}

TEST(CheckpointTest, AnyLayoutLoadsWhatAnyOtherSaved) {
  std::mt19937 random(4);
  const std::vector<Logical> model = SomeModel();
  std::string first_single, first_sharded;
  for (int round = 0; round < 40; ++round) {
    const std::string parent = FreshFolder();
    const bool sharded = round % 2 == 1;
    Save(parent, RandomLayout(model, 1 + round % 5, /*filled=*/true, random),
         sharded ? 700 : kDefaultMaxShardBytes);
    ASSERT_TRUE(VerifyManifest(parent + "/checkpoint-1").ok());
    // The bytes do not depend on the layout.
    std::string& first = sharded ? first_sharded : first_single;
    const std::string content = WholeFolder(parent + "/checkpoint-1");
    if (first.empty()) first = content;
    EXPECT_TRUE(first == content);

    const ModelFiles files = *ModelFiles::Open(parent + "/checkpoint-1");
    EXPECT_EQ(files.files().size() > 1, sharded);
    for (const Logical& logical : model) {
      const at::Tensor loaded = *files.Load(logical.name);
      EXPECT_EQ(loaded.scalar_type(), logical.file_dtype);
      EXPECT_TRUE(at::equal(loaded.to(at::kDouble), logical.values.to(at::kDouble)));
    }
    for (const auto& tensors : RandomLayout(model, 1 + random() % 5, /*filled=*/false, random)) {
      const absl::Status status =
          LoadTensors(files, tensors, {.surplus_ok = [](std::string_view) { return true; }});
      ASSERT_TRUE(status.ok()) << status;
      for (const NamedTensor& tensor : tensors) {
        const auto logical =
            std::find_if(model.begin(), model.end(),
                         [&](const Logical& candidate) { return candidate.name == tensor.name; });
        for (const TensorPiece& piece : tensor.pieces) {
          EXPECT_TRUE(at::equal(piece.local.to(at::kDouble),
                                Slice(logical->values, piece.box).to(at::kDouble)))
              << tensor.name << piece.box.ToString();
        }
      }
    }
  }
}

NamedTensor Whole(std::string name, const at::Tensor& values) {
  const std::vector<int64_t> shape = values.sizes().vec();
  return {.name = std::move(name),
          .full_shape = shape,
          .file_dtype = values.scalar_type(),
          .pieces = {{.box = Box::Whole(shape), .local = values}}};
}

TEST(CheckpointTest, WhatDoesNotFitIsNamedAndNothingIsRead) {
  const std::string parent = FreshFolder();
  Save(parent,
       {{Whole("a", at::full({2, 3}, 7.0)), Whole("b", at::zeros({2})), Whole("c", at::zeros({2})),
         Whole("extra", at::zeros({2}))}},
       kDefaultMaxShardBytes);
  const ModelFiles files = *ModelFiles::Open(parent + "/checkpoint-1");
  const at::Tensor a = at::full({2, 3}, 1.0);
  const std::vector<NamedTensor> wanted = {Whole("a", a), Whole("b", at::zeros({3, 2})),
                                           Whole("c", at::zeros({2}, at::kLong)),
                                           Whole("lost", at::zeros({1}))};
  const absl::Status status = LoadTensors(files, wanted);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(
      status.message(),
      absl::StrCat(parent,
                   "/checkpoint-1/model.safetensors does not fit: 1 missing: lost; 1 surplus: "
                   "extra; 1 of another shape: b (expected [3, 2], found [2]); 1 of a dtype "
                   "that does not convert: c (found F32)"));
  EXPECT_EQ(a.sum().item<double>(), 6);

  const LoadOptions lenient{.surplus_ok = [](std::string_view name) { return name != "a"; },
                            .missing_ok = [](std::string_view name) { return name == "lost"; }};
  EXPECT_TRUE(LoadTensors(files, {wanted[0], wanted[3]}, lenient).ok());
  EXPECT_EQ(a.sum().item<double>(), 42);
}

TEST(CheckpointTest, ManyMissingTensorsAreCounted) {
  const std::string parent = FreshFolder();
  Save(parent, {{}}, kDefaultMaxShardBytes);
  std::vector<NamedTensor> wanted;
  for (int i = 0; i < 25; ++i) wanted.push_back(Whole(absl::StrCat("w", i), at::zeros({1})));
  const absl::Status status = LoadTensors(*ModelFiles::Open(parent + "/checkpoint-1"), wanted);
  EXPECT_TRUE(absl::StrContains(status.message(), "25 missing: w0, w1, w2")) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "w9 and 15 more")) << status;
}

// What Save says when these two ranks save together; the same on both, and nothing is left.
std::string SaveError(const std::vector<NamedTensor>& first,
                      const std::vector<NamedTensor>& second) {
  const std::string parent = FreshFolder();
  std::mutex mutex;
  std::vector<std::string> messages;
  RunThreadRanks(2, [&](const RankGroup& group) {
    auto directory = *AtomicDirectory::Create(parent, "checkpoint-1", group);
    const absl::Status status = SaveTensors(*directory, "model", group.rank == 0 ? first : second);
    EXPECT_FALSE(status.ok());
    EXPECT_FALSE(directory->Commit().ok());
    const std::scoped_lock lock(mutex);
    messages.emplace_back(status.message());
  });
  EXPECT_EQ(messages[0], messages[1]);
  EXPECT_EQ(ListDirectory(parent)->size(), 0u);
  return messages[0];
}

TEST(CheckpointTest, LayoutsThatDoNotCoverATensorOnceAreRefused) {
  const auto rows = [](int64_t begin, int64_t count, std::vector<int64_t> shape = {4, 3}) {
    NamedTensor tensor{.name = "w", .full_shape = std::move(shape)};
    tensor.pieces.push_back({.box = {{begin, 0}, {count, 3}}, .local = at::zeros({count, 3})});
    return tensor;
  };
  EXPECT_TRUE(absl::StrContains(SaveError({rows(0, 2)}, {rows(3, 1)}), "9 elements, expected 12"));
  EXPECT_TRUE(absl::StrContains(SaveError({rows(0, 2)}, {rows(1, 2)}),
                                "overlapping pieces [0:2, 0:3] and [1:3, 0:3]"));
  EXPECT_TRUE(absl::StrContains(SaveError({rows(0, 2)}, {rows(2, 3)}), "[2:5, 0:3] outside"));
  EXPECT_TRUE(absl::StrContains(SaveError({rows(0, 2)}, {rows(2, 3, {5, 3})}),
                                "is Float [5, 3] on rank 1 but Float [4, 3] on a rank before"));
  NamedTensor other_dtype = rows(2, 2);
  other_dtype.file_dtype = at::kHalf;
  EXPECT_TRUE(
      absl::StrContains(SaveError({rows(0, 2)}, {other_dtype}), "is Half [4, 3] on rank 1"));
  NamedTensor only_replica = rows(2, 2);
  only_replica.replica = 1;
  EXPECT_TRUE(
      absl::StrContains(SaveError({rows(0, 2)}, {only_replica}), "6 elements, expected 12"));
  // A mistake that only the writing rank can see.
  NamedTensor misshaped = rows(2, 2);
  misshaped.pieces[0].local = at::zeros({2, 2});
  EXPECT_TRUE(
      absl::StrContains(SaveError({rows(0, 2)}, {misshaped}), "rank 1: tensor 'w': a tensor"));
}

TEST(CheckpointTest, RangesBecomeBoxesInOrder) {
  const Box boxes[] = {
      {{}, {}}, {{3}, {7}}, {{1, 2}, {3, 4}}, {{0, 5, 1}, {3, 2, 4}}, {{2, 0, 1, 3}, {2, 3, 1, 2}}};
  for (const Box& box : boxes) {
    std::vector<int64_t> shape = box.length;
    for (int dim = 0; dim < box.num_dims(); ++dim) shape[dim] += box.offset[dim] + 1;
    const at::Tensor whole = at::arange(Box::Whole(shape).Volume(), at::kLong).view(shape);
    const at::Tensor expected = Slice(whole, box).contiguous().view({-1});
    for (int64_t begin = 0; begin <= box.Volume(); ++begin) {
      for (int64_t end = begin; end <= box.Volume(); ++end) {
        const at::Tensor flat = at::zeros({end - begin}, at::kLong);
        const std::vector<TensorPiece> pieces = PiecesOfRange(box, begin, end, flat);
        EXPECT_LE(pieces.size(), std::max<size_t>(1, 2 * box.num_dims()));
        for (const TensorPiece& piece : pieces) piece.local.copy_(Slice(whole, piece.box));
        EXPECT_TRUE(at::equal(flat, expected.slice(0, begin, end)));
      }
    }
  }
}

}  // namespace
}  // namespace lathe
