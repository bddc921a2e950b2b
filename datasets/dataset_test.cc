#include "lathe/datasets/dataset.h"

#include <cstdint>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "lathe/datasets/golden.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

// Sample i is the one token i.
class CountedDataset : public Dataset {
 public:
  explicit CountedDataset(int32_t size) : ids_(size) {
    for (int32_t i = 0; i < size; ++i) ids_[i] = i;
  }
  int64_t size() const override { return static_cast<int64_t>(ids_.size()); }
  Sample Get(int64_t index) const override { return {{&ids_[index], 1}, {&ids_[index], 1}}; }

 private:
  std::vector<int32_t> ids_;
};

TEST(SliceDataset, IsThePart) {
  auto all = std::make_shared<CountedDataset>(10);
  const SliceDataset slice(all, 3, 7);
  ASSERT_EQ(slice.size(), 4);
  EXPECT_EQ(slice.Get(0).input_ids[0], 3);
  EXPECT_EQ(slice.Get(3).labels[0], 6);
  EXPECT_EQ(SliceDataset(all, 10, 10).size(), 0);
  EXPECT_DEATH(slice.Get(4), "4 of 4");
  EXPECT_DEATH(SliceDataset(all, 3, 11), "of 10 samples");
}

TEST(PercentageOf, EqualsDatasets) {
  for (const nlohmann::json& golden : ReadGolden("splits.json")) {
    EXPECT_EQ(PercentageOf(golden["n"], golden["percentage"]), golden["first"].get<int64_t>())
        << golden;
  }
}

}  // namespace
}  // namespace lathe
