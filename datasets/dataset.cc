#include "lathe/datasets/dataset.h"

#include <cmath>
#include <cstdint>
#include <memory>
#include <utility>

#include "lathe/base/logging.h"

namespace lathe {

SliceDataset::SliceDataset(std::shared_ptr<const Dataset> dataset, int64_t first, int64_t last)
    : dataset_(std::move(dataset)), first_(first), last_(last) {
  CHECK(0 <= first && first <= last && last <= dataset_->size())
      << "slice [" << first << ", " << last << ") of " << dataset_->size() << " samples";
}

Sample SliceDataset::Get(int64_t index) const {
  CHECK(0 <= index && index < size()) << index << " of " << size();
  return dataset_->Get(first_ + index);
}

int64_t PercentageOf(int64_t size, int percentage) {
  return std::llrint(static_cast<double>(percentage) * static_cast<double>(size) / 100.0);
}

}  // namespace lathe
