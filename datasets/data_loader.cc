#include "lathe/datasets/data_loader.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <future>
#include <vector>

#include "absl/types/span.h"

namespace lathe {
namespace {

int64_t CountBatches(int64_t num_samples, const LoaderOptions& options) {
  TORCH_CHECK(options.batch_size >= 1, "batch_size ", options.batch_size);
  TORCH_CHECK(0 <= options.shard_index && options.shard_index < options.num_shards, "shard ",
              options.shard_index, " of ", options.num_shards);
  const int64_t size = options.batch_size;
  const int64_t shards = options.num_shards;
  if (options.drop_last) return num_samples / size / shards;
  const int64_t batches = (num_samples + size - 1) / size;
  const int64_t more = batches % shards;
  const bool has_one_more = options.even_batches ? more > 0 : options.shard_index < more;
  return batches / shards + (has_one_more ? 1 : 0);
}

void CopyRow(absl::Span<const int32_t> ids, int64_t* row) {
  std::copy(ids.begin(), ids.end(), row);
}

// As long as the longest, rounded up.
int64_t NumColumns(const std::vector<Sample>& samples, int64_t multiple_of) {
  size_t longest = 0;
  for (const Sample& sample : samples) longest = std::max(longest, sample.input_ids.size());
  return (static_cast<int64_t>(longest) + multiple_of - 1) / multiple_of * multiple_of;
}

Batch Collate(const std::vector<Sample>& samples, const LoaderOptions& options) {
  const int64_t rows = static_cast<int64_t>(samples.size());
  const int64_t columns = NumColumns(samples, options.pad_id ? options.pad_to_multiple_of : 1);
  bool same = true;
  for (const Sample& sample : samples) {
    const auto size = static_cast<int64_t>(sample.input_ids.size());
    TORCH_CHECK(sample.labels.size() == sample.input_ids.size() &&
                    (size == columns || options.pad_id.has_value()),
                "a sample of ", size, " tokens and ", sample.labels.size(),
                " labels in a batch of samples of ", columns, " tokens");
    same = same && size == columns && sample.labels.data() == sample.input_ids.data();
  }
  Batch batch;
  batch.num_samples = rows;
  batch.input_ids = at::empty({rows, columns}, at::kLong);
  batch.labels = same ? batch.input_ids : at::empty({rows, columns}, at::kLong);
  int64_t* ids = batch.input_ids.mutable_data_ptr<int64_t>();
  int64_t* labels = batch.labels.mutable_data_ptr<int64_t>();
  for (int64_t row = 0; row < rows; ++row) {
    int64_t *row_ids = ids + row * columns, *row_labels = labels + row * columns;
    CopyRow(samples[row].input_ids, row_ids);
    if (!same) CopyRow(samples[row].labels, row_labels);
    const auto size = static_cast<int64_t>(samples[row].input_ids.size());
    if (size == columns) continue;
    std::fill(row_ids + size, row_ids + columns, int64_t{*options.pad_id});
    std::fill(row_labels + size, row_labels + columns, int64_t{kIgnoredLabel});
  }
  return batch;
}

}  // namespace

DataLoader::DataLoader(const Dataset& dataset, const LoaderOptions& options)
    : dataset_(dataset),
      options_(options),
      num_samples_(dataset.size()),
      num_batches_(CountBatches(dataset.size(), options)) {
  Seek(0, 0);
}

void DataLoader::Seek(int64_t epoch, int64_t batch) {
  TORCH_CHECK(epoch >= 0, "epoch ", epoch);
  TORCH_CHECK(0 <= batch && batch <= num_batches_, "batch ", batch, " of ", num_batches_);
  if (epoch == epoch_ && batch == next_) return;
  // Waits for the thread that reads what changes below.
  if (prefetched_.valid()) prefetched_.wait();
  prefetched_ = {};
  if (epoch != epoch_) {
    order_ = EpochOrder(options_.strategy, num_samples_, options_.seed, epoch);
    epoch_ = epoch;
  }
  next_ = batch;
}

Batch DataLoader::Next() {
  TORCH_CHECK(next_ < num_batches_, "epoch ", epoch_, " has ", num_batches_,
              " batches; Seek to the next one");
  Batch batch = prefetched_.valid() ? prefetched_.get() : Make(next_);
  ++next_;
  if (options_.prefetch_threads > 0 && next_ < num_batches_) {
    prefetched_ = std::async(std::launch::async, [this, next = next_] { return Make(next); });
  }
  return batch;
}

Batch DataLoader::Make(int64_t batch) const {
  const int64_t begin = (batch * options_.num_shards + options_.shard_index) * options_.batch_size;
  // Positions behind the last sample start again from the first. Not for a single shard: there
  // accelerate leaves the sampler alone.
  const bool wrap = options_.even_batches && !options_.drop_last && options_.num_shards > 1;
  const int64_t whole_end = begin + options_.batch_size;
  const int64_t real_end = std::clamp(num_samples_, begin, whole_end);
  const int64_t end = wrap ? whole_end : real_end;
  std::vector<Sample> samples;
  std::vector<int64_t> numbers;
  samples.reserve(end - begin);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t index = order_[i % num_samples_];
    samples.push_back(dataset_.Get(index));
    numbers.push_back(epoch_ * num_samples_ + index);
  }
  Batch result = Collate(samples, options_);
  result.sample_numbers = std::move(numbers);
  result.num_real_samples = real_end - begin;
  return result;
}

}  // namespace lathe
