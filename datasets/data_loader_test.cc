#include "lathe/datasets/data_loader.h"

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "lathe/datasets/dataset.h"
#include "lathe/datasets/golden.h"
#include "lathe/datasets/sampler.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

// Sample i is the tokens i, i + 1000, ...
class CountedDataset : public Dataset {
 public:
  explicit CountedDataset(int64_t size, int64_t length = 2, bool own_labels = false)
      : size_(size), length_(length), own_labels_(own_labels) {
    for (int64_t i = 0; i < size; ++i) {
      for (int64_t j = 0; j < length; ++j) {
        ids_.push_back(static_cast<int32_t>(i + 1000 * j));
        labels_.push_back(j == 0 ? -100 : ids_.back());
      }
    }
  }
  int64_t size() const override { return size_; }
  Sample Get(int64_t index) const override {
    const auto ids = absl::MakeConstSpan(ids_).subspan(index * length_, length_);
    return {ids,
            own_labels_ ? absl::MakeConstSpan(labels_).subspan(index * length_, length_) : ids};
  }

 private:
  const int64_t size_, length_;
  const bool own_labels_;
  std::vector<int32_t> ids_, labels_;
};

std::vector<int64_t> Samples(const Batch& batch) {
  const at::Tensor column = batch.input_ids.select(1, 0).contiguous();
  const int64_t* data = column.const_data_ptr<int64_t>();
  return std::vector<int64_t>(data, data + column.numel());
}

SamplingStrategy StrategyOf(const nlohmann::json& golden) {
  return *ParseSamplingStrategy(golden["strategy"].get<std::string>());
}

// All batches of an epoch, one after the other.
std::vector<std::vector<int64_t>> Epoch(DataLoader& loader, int64_t epoch) {
  std::vector<std::vector<int64_t>> batches;
  loader.Seek(epoch, 0);
  for (int64_t i = 0; i < loader.num_batches(); ++i) batches.push_back(Samples(loader.Next()));
  return batches;
}

TEST(DataLoader, EqualsAccelerate) {
  for (const nlohmann::json& golden : ReadGolden("batches.json")) {
    SCOPED_TRACE(golden.dump());
    const int64_t n = golden["n"];
    const CountedDataset dataset(n);
    int64_t num_real_samples = 0;
    for (int shard = 0; shard < golden["num_shards"]; ++shard) {
      DataLoader loader(dataset, {.batch_size = golden["batch_size"],
                                  .strategy = StrategyOf(golden),
                                  .seed = golden["seed"],
                                  .drop_last = golden["drop_last"],
                                  .shard_index = shard,
                                  .num_shards = golden["num_shards"],
                                  .prefetch_threads = shard % 2,
                                  .even_batches = golden["even_batches"]});
      for (const nlohmann::json& epoch : golden["epochs"]) {
        const std::vector<std::vector<int64_t>> expected = epoch["batches"][shard];
        EXPECT_EQ(loader.num_batches(), expected.size());
        EXPECT_EQ(Epoch(loader, epoch["epoch"]), expected);
      }
      loader.Seek(0, 0);
      for (int64_t i = 0; i < loader.num_batches(); ++i) {
        const Batch batch = loader.Next();
        EXPECT_EQ(batch.num_samples, batch.input_ids.size(0));
        EXPECT_LE(batch.num_real_samples, batch.num_samples);
        num_real_samples += batch.num_real_samples;
      }
    }
    // Without drop_last each sample is real once, in one of the shards.
    if (!golden["drop_last"]) {
      EXPECT_EQ(num_real_samples, n);
    }
  }
}

TEST(DataLoader, EqualsTrainer) {
  for (const nlohmann::json& golden : ReadGolden("trainer_order.json")) {
    SCOPED_TRACE(golden.dump());
    const CountedDataset dataset(golden["n"]);
    const nlohmann::json& seed = golden[golden["data_seed"].is_null() ? "seed" : "data_seed"];
    for (int shard = 0; shard < golden["num_shards"]; ++shard) {
      DataLoader loader(dataset, {.batch_size = golden["batch_size"],
                                  .seed = seed,
                                  .shard_index = shard,
                                  .num_shards = golden["num_shards"]});
      std::vector<std::vector<int64_t>> batches;
      for (int64_t epoch = 0; epoch < golden["num_epochs"]; ++epoch) {
        for (auto& batch : Epoch(loader, epoch)) batches.push_back(std::move(batch));
      }
      EXPECT_EQ(batches, golden["batches"][shard].get<std::vector<std::vector<int64_t>>>());
    }
  }
}

TEST(DataLoader, SeeksToWhatItWouldHaveReached) {
  const CountedDataset dataset(23);
  const LoaderOptions options = {.batch_size = 3, .shard_index = 1, .num_shards = 2};
  DataLoader straight(dataset, options);
  DataLoader seeking(dataset, options);
  std::vector<std::vector<std::vector<int64_t>>> epochs;
  for (int64_t epoch = 0; epoch < 3; ++epoch) epochs.push_back(Epoch(straight, epoch));
  EXPECT_NE(epochs[0], epochs[1]);
  for (const int64_t epoch : {2, 0, 1, 1, 2}) {
    for (int64_t batch = straight.num_batches() - 1; batch >= 0; --batch) {
      seeking.Seek(epoch, batch);
      for (int64_t i = batch; i < straight.num_batches(); ++i) {
        EXPECT_EQ(Samples(seeking.Next()), epochs[epoch][i]) << epoch << " " << i;
      }
    }
  }
  EXPECT_EQ(straight.num_samples(), 23);
}

TEST(DataLoader, StartsInEpochZero) {
  const CountedDataset dataset(9);
  DataLoader loader(dataset, {.batch_size = 4});
  const Batch first = loader.Next();
  EXPECT_EQ(Samples(first), Epoch(loader, 0)[0]);
}

TEST(DataLoader, TensorsHoldIdsAndLabels) {
  const CountedDataset same(5, 3);
  DataLoader loader(same, {.batch_size = 2, .strategy = SamplingStrategy::kSequential});
  Batch batch = loader.Next();
  EXPECT_EQ(batch.input_ids.scalar_type(), at::kLong);
  EXPECT_EQ(batch.input_ids.sizes(), (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(batch.input_ids[1][2].item<int64_t>(), 2001);
  EXPECT_TRUE(batch.labels.is_same(batch.input_ids));

  const CountedDataset own(5, 3, /*own_labels=*/true);
  DataLoader other(own, {.batch_size = 2, .strategy = SamplingStrategy::kSequential});
  batch = other.Next();
  EXPECT_EQ(batch.input_ids[1][0].item<int64_t>(), 1);
  EXPECT_EQ(batch.labels[1][0].item<int64_t>(), -100);
  EXPECT_EQ(batch.labels[1][1].item<int64_t>(), 1001);
}

TEST(DataLoader, EmptyEpochsAndMisuse) {
  const CountedDataset none(0);
  EXPECT_EQ(DataLoader(none, {}).num_batches(), 0);
  EXPECT_EQ(DataLoader(none, {.num_shards = 2}).num_batches(), 0);
  const CountedDataset three(3);
  EXPECT_EQ(DataLoader(three, {.batch_size = 4, .drop_last = true}).num_batches(), 0);
  DataLoader loader(three, {.batch_size = 2});
  loader.Next();
  loader.Next();
  EXPECT_THROW(loader.Next(), c10::Error);
  EXPECT_THROW(loader.Seek(0, 3), c10::Error);
  EXPECT_THROW(loader.Seek(-1, 0), c10::Error);
  loader.Seek(0, 2);
  EXPECT_THROW(loader.Next(), c10::Error);
  EXPECT_THROW(DataLoader(three, {.batch_size = 0}), c10::Error);
  EXPECT_THROW(DataLoader(three, {.shard_index = 2, .num_shards = 2}), c10::Error);
}

// Samples of different lengths, and one that throws.
class BadDataset : public Dataset {
 public:
  int64_t size() const override { return 6; }
  Sample Get(int64_t index) const override {
    if (index == 5) throw std::runtime_error("sample 5");
    const absl::Span<const int32_t> ids(ids_, index < 2 ? 4 : index);
    return {ids, ids};
  }

 private:
  int32_t ids_[8] = {};
};

// Sample i: i + 1 times the token i + 10, the first of which is not learnt.
class Growing : public Dataset {
 public:
  Growing() {
    for (int32_t i = 0; i < 4; ++i) {
      ids_.emplace_back(i + 1, i + 10);
      labels_.push_back(ids_.back());
      labels_.back()[0] = kIgnoredLabel;
    }
  }
  int64_t size() const override { return 4; }
  Sample Get(int64_t index) const override { return {ids_[index], labels_[index]}; }

 private:
  std::vector<std::vector<int32_t>> ids_, labels_;
};

TEST(DataLoader, PadsToTheLongestOfABatch) {
  const Growing dataset;
  LoaderOptions options = {.batch_size = 2, .strategy = SamplingStrategy::kSequential, .pad_id = 7};
  DataLoader loader(dataset, options);
  const auto rows = [](const at::Tensor& tensor) {
    std::vector<int64_t> values(tensor.const_data_ptr<int64_t>(),
                                tensor.const_data_ptr<int64_t>() + tensor.numel());
    return values;
  };
  Batch batch = loader.Next();
  EXPECT_EQ(batch.input_ids.sizes(), at::IntArrayRef({2, 2}));
  EXPECT_EQ(rows(batch.input_ids), std::vector<int64_t>({10, 7, 11, 11}));
  EXPECT_EQ(rows(batch.labels), std::vector<int64_t>({-100, -100, -100, 11}));
  EXPECT_EQ(loader.Next().input_ids.size(1), 4);
  options.pad_to_multiple_of = 8;
  DataLoader rounded(dataset, options);
  batch = rounded.Next();
  EXPECT_EQ(batch.input_ids.size(1), 8);
  EXPECT_EQ(batch.labels[1][1].item().toLong(), 11);
  EXPECT_EQ(batch.labels[1][2].item().toLong(), kIgnoredLabel);
}

TEST(DataLoader, HandsOnWhatItsThreadThrows) {
  const BadDataset dataset;
  for (const int prefetch_threads : {0, 1}) {
    DataLoader loader(dataset, {.batch_size = 2,
                                .strategy = SamplingStrategy::kSequential,
                                .prefetch_threads = prefetch_threads});
    EXPECT_EQ(loader.Next().input_ids.size(1), 4);
    EXPECT_THROW(loader.Next(), c10::Error);  // lengths 2 and 3
    loader.Seek(0, 2);
    EXPECT_THROW(loader.Next(), std::runtime_error);
    loader.Seek(0, 0);
    EXPECT_EQ(loader.Next().input_ids.size(1), 4);
  }
}

}  // namespace
}  // namespace lathe
