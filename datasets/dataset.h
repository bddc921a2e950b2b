#ifndef LATHE_DATASETS_DATASET_H_
#define LATHE_DATASETS_DATASET_H_

// Dataset: samples by index. What changes a data set (a slice, a packing) is a data set that holds
// another one.
//
//   auto blocks = std::make_shared<BlockDataset>(...);
//   SliceDataset train(blocks, 100, blocks->size());
//   Sample sample = train.Get(0);       // blocks->Get(100)
//
// Data sets are immutable: any number of threads may call Get at once.

#include <cstdint>
#include <memory>

#include "absl/types/span.h"

namespace lathe {

// The label that no loss counts, Hugging Face's.
inline constexpr int32_t kIgnoredLabel = -100;

// One training sample. The spans stay valid as long as the data set they came from.
struct Sample {
  absl::Span<const int32_t> input_ids;
  // As long as input_ids; kIgnoredLabel where nothing is to be learnt. Not shifted: label i is
  // token i. The very same span as input_ids where every token is learnt.
  absl::Span<const int32_t> labels;
};

class Dataset {
 public:
  virtual ~Dataset() = default;

  // The number of samples.
  virtual int64_t size() const = 0;

  // Sample `index` of [0, size()); another index is a programmer's error.
  virtual Sample Get(int64_t index) const = 0;
};

// The samples [first, last) of another data set, 0 <= first <= last <= size().
class SliceDataset : public Dataset {
 public:
  SliceDataset(std::shared_ptr<const Dataset> dataset, int64_t first, int64_t last);

  int64_t size() const override { return last_ - first_; }
  Sample Get(int64_t index) const override;

 private:
  std::shared_ptr<const Dataset> dataset_;
  int64_t first_;
  int64_t last_;
};

// How many of `size` documents are `percentage` percent, as Hugging Face's split "train[:5%]"
// counts: to the nearest, a half to the even number.
int64_t PercentageOf(int64_t size, int percentage);

}  // namespace lathe

#endif  // LATHE_DATASETS_DATASET_H_
