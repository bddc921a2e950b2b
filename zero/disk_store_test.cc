#include "lathe/zero/disk_store.h"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "ATen/ops/arange.h"
#include "ATen/ops/equal.h"
#include "ATen/ops/zeros.h"
#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

constexpr int64_t kPage = DiskStore::kAlignment / 4;  // fp32 elements of one

// Small blocks, few at a time: every transfer below has many.
std::unique_ptr<DiskStore> Store() {
  auto store = DiskStore::Create(testing::TempDir(), {.block_size_bytes = 8192, .queue_depth = 3});
  EXPECT_TRUE(store.ok()) << store.status();
  return *std::move(store);
}

at::Tensor Filled(int64_t elements, int64_t first) {
  at::Tensor buffer = DiskStore::Buffer(elements, at::kFloat);
  buffer.copy_(at::arange(first, first + elements, at::kFloat));
  return buffer;
}

TEST(DiskStoreTest, WhatIsWrittenIsReadAndOthersAreLeftAlone) {
  const auto store = Store();
  const int64_t n = 50 * kPage + 7;
  const DiskStore::Region a = store->Reserve(4 * n), b = store->Reserve(4 * n);
  at::Tensor seen = DiskStore::Buffer(n, at::kFloat);
  seen.fill_(1);
  store->Read(a, 0, seen).Wait();
  EXPECT_TRUE(at::equal(seen, at::zeros({n}))) << "new space is zero";
  std::vector<PendingTransfer> pending;
  pending.push_back(store->Write(a, 0, Filled(n, 0)));
  pending.push_back(store->Write(b, 0, Filled(n, 1000)));
  for (const PendingTransfer& transfer : pending) transfer.Wait();
  store->Write(a, 4 * 3 * kPage, Filled(2 * kPage, -5)).Wait();
  at::Tensor expected = at::arange(n, at::kFloat);
  expected.narrow(0, 3 * kPage, 2 * kPage).copy_(at::arange(-5, 2 * kPage - 5, at::kFloat));
  at::Tensor other = DiskStore::Buffer(n, at::kFloat);
  const PendingTransfer first = store->Read(a, 0, seen), second = store->Read(b, 0, other);
  first.Wait();
  second.Wait();
  EXPECT_TRUE(at::equal(seen, expected));
  EXPECT_TRUE(at::equal(other, at::arange(1000, 1000 + n, at::kFloat)));
}

TEST(DiskStoreTest, AMappingAndTransfersSeeEachOther) {
  const auto store = Store();
  const int64_t n = 20 * kPage;
  const DiskStore::Region region = store->Reserve(4 * n);
  const at::Tensor mapped = store->Map(region, n, at::kFloat);
  for (int round = 0; round < 3; ++round) {
    mapped.copy_(at::arange(round, round + n, at::kFloat));
    at::Tensor buffer = DiskStore::Buffer(n, at::kFloat);
    store->Read(region, 0, buffer).Wait();
    EXPECT_TRUE(at::equal(buffer, mapped)) << round;
    store->Write(region, 0, Filled(n, 77 + round)).Wait();
    EXPECT_EQ(mapped[0].item().toFloat(), 77 + round);
    EXPECT_EQ(mapped[n - 1].item().toFloat(), 76 + round + n);
  }
}

TEST(DiskStoreTest, LeavesNoFile) {
  const std::string folder = testing::TempDir() + "/empty";
  std::filesystem::create_directories(folder);
  auto store = DiskStore::Create(folder, {});
  ASSERT_TRUE(store.ok());
  (*store)->Reserve(1 << 20);
  EXPECT_TRUE(std::filesystem::is_empty(folder));
}

TEST(DiskStoreTest, ErrorsNameTheFolder) {
  const auto absent = DiskStore::Create(testing::TempDir() + "/absent", {});
  ASSERT_FALSE(absent.ok());
  EXPECT_TRUE(absl::StrContains(absent.status().message(), "/absent: cannot make a file there"))
      << absent.status();
  const auto store = Store();
  try {
    store->Reserve(int64_t{1} << 60);
    FAIL() << "there is no such disk";
  } catch (const DiskError& e) {
    EXPECT_TRUE(absl::StrContains(e.what(), "no room for 1152921504.6 GB more")) << e.what();
  }
  // The store is as it was.
  const DiskStore::Region region = store->Reserve(4096);
  store->Write(region, 0, Filled(kPage, 3)).Wait();
}

}  // namespace
}  // namespace lathe
