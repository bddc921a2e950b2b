#ifndef LATHE_DATASETS_DATA_LOADER_H_
#define LATHE_DATASETS_DATA_LOADER_H_

// DataLoader: a data set's samples as batches of tensors, in the order of an epoch, one shard of
// them for each data-parallel rank.
//
//   DataLoader loader(*dataset, {.batch_size = 8, .seed = 42, .shard_index = r, .num_shards = w});
//   for (int64_t epoch = 0; epoch < 3; ++epoch) {
//     loader.Seek(epoch, 0);
//     for (int64_t i = 0; i < loader.num_batches(); ++i) Train(loader.Next());
//   }
//
// Batch i of shard r in an epoch is a function of the options, the epoch and i: a restart seeks
// there and goes on with the very same tensors. Batches are those of Hugging Face's Trainer
// (accelerate/data_loader.py, BatchSamplerShard): the order is cut into batches, which are dealt
// round robin, global batch g to shard g mod num_shards. At the end of an epoch
//   drop_last     a short batch goes, and so do batches that not every shard gets;
//   even_batches  otherwise: the short batch and the missing ones are filled with the first
//                 samples of the epoch again, so that all shards have equally many full batches.
//                 A single shard has its short batch as it is;
//   neither       what is left is dealt as it is: some shards may have a batch less.
//
// One thread uses a DataLoader at a time; it prepares the next batch in another one by itself.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <future>
#include <optional>
#include <vector>

#include "lathe/datasets/dataset.h"
#include "lathe/datasets/sampler.h"

namespace lathe {

struct LoaderOptions {
  int64_t batch_size = 8;
  SamplingStrategy strategy = SamplingStrategy::kRandom;
  uint64_t seed = 42;
  bool drop_last = false;
  int shard_index = 0;
  int num_shards = 1;
  // 0: Next makes its batch itself. More: one thread makes the next batch meanwhile.
  int prefetch_threads = 1;
  bool even_batches = true;
  // What fills samples up to the longest of their batch, on the right, with labels that do not
  // count. Without it all samples of a batch must be equally long.
  std::optional<int32_t> pad_id = std::nullopt;
  int64_t pad_to_multiple_of = 1;  // tokens, with pad_id
};

struct Batch {
  at::Tensor input_ids;  // [batch, sequence] int64
  // [batch, sequence] int64, -100 where nothing is learnt, not shifted. The same tensor as
  // input_ids where all is learnt: do not write into it.
  at::Tensor labels;
  // The rows, and how many of them are no repetition by even_batches: these come first, and an
  // evaluation counts these only.
  int64_t num_samples = 0;
  int64_t num_real_samples = 0;
  // Of each row, a number that no other row of the training has: epoch · size of the data set + the
  // sample's index in it.
  std::vector<int64_t> sample_numbers;
};

class DataLoader {
 public:
  // `dataset` must outlive the loader. Stands at the first batch of epoch 0. A batch size or number
  // of shards below 1, or a shard that is not one of them, is a programmer's error.
  DataLoader(const Dataset& dataset, const LoaderOptions& options);
  DataLoader(const DataLoader&) = delete;
  DataLoader& operator=(const DataLoader&) = delete;

  // Batches of this shard in an epoch; 0 is possible, with drop_last or an empty data set.
  int64_t num_batches() const { return num_batches_; }

  // Samples of the whole data set.
  int64_t num_samples() const { return num_samples_; }

  // Makes Next return batch `batch` of `epoch` (from 0), 0 <= batch <= num_batches(). Costs the
  // permutation of that epoch, and nothing in the current one.
  void Seek(int64_t epoch, int64_t batch);

  // The batch at the position, and moves on. Past the end of the epoch is a programmer's error
  // (TORCH_CHECK), as is a data set whose samples differ in length without pad_id.
  Batch Next();

 private:
  Batch Make(int64_t batch) const;

  const Dataset& dataset_;
  const LoaderOptions options_;
  const int64_t num_samples_;
  const int64_t num_batches_;
  int64_t epoch_ = -1;
  int64_t next_ = 0;
  std::vector<int64_t> order_;
  std::future<Batch> prefetched_;  // batch next_; last, since its thread uses the others
};

}  // namespace lathe

#endif  // LATHE_DATASETS_DATA_LOADER_H_
