#include "lathe/checkpoint/staged_copy.h"

#include "ATen/ops/arange.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/full.h"
#include "gtest/gtest.h"
#include "lathe/checkpoint/checkpoint.h"

namespace lathe {
namespace {

TEST(StagedCopyTest, HoldsWhatWasThere) {
  const at::Tensor whole = at::arange(24, at::kFloat).view({4, 6});
  // A view with strides, and one that is saved in another dtype.
  const NamedTensor columns{.name = "columns",
                            .full_shape = {4, 6},
                            .pieces = {{.box = {{0, 1}, {4, 3}}, .local = whole.narrow(1, 1, 3)}}};
  const NamedTensor half{.name = "half",
                         .full_shape = {4, 6},
                         .file_dtype = at::kBFloat16,
                         .pieces = {{.box = {{0, 0}, {4, 6}}, .local = whole}}};
  const at::Tensor before = whole.clone();
  StagedCopy staged;
  const std::vector<NamedTensor> copies = staged.Copy({columns, half});
  whole.fill_(-1);
  ASSERT_EQ(copies.size(), 2);
  EXPECT_EQ(copies[0].name, "columns");
  EXPECT_EQ(copies[0].pieces[0].box, columns.pieces[0].box);
  EXPECT_TRUE(at::equal(copies[0].pieces[0].local, before.narrow(1, 1, 3)));
  EXPECT_TRUE(at::equal(copies[1].pieces[0].local, before.to(at::kBFloat16)));
}

TEST(StagedCopyTest, CopiesOnlyWhatThisRankSaves) {
  const NamedTensor others{
      .name = "w",
      .full_shape = {1000},
      .replica = 1,
      .pieces = {{.box = {{0}, {1000}}, .local = at::full({1000}, 1.0, at::kFloat)}}};
  StagedCopy staged;
  const std::vector<NamedTensor> copies = staged.Copy({others});
  EXPECT_EQ(staged.bytes(), 0);
  EXPECT_EQ(copies[0].full_shape, others.full_shape);
  EXPECT_TRUE(copies[0].pieces.empty());
}

TEST(StagedCopyTest, UsesItsMemoryAgain) {
  const auto tensor = [](double value) {
    return NamedTensor{
        .name = "w",
        .full_shape = {100},
        .pieces = {{.box = {{0}, {100}}, .local = at::full({100}, value, at::kFloat)}}};
  };
  StagedCopy staged;
  const void* const first = staged.Copy({tensor(1)})[0].pieces[0].local.data_ptr();
  const std::vector<NamedTensor> copies = staged.Copy({tensor(2)});
  EXPECT_EQ(copies[0].pieces[0].local.data_ptr(), first);
  EXPECT_EQ(copies[0].pieces[0].local[99].item<float>(), 2);
}

}  // namespace
}  // namespace lathe
