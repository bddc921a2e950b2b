#include "lathe/checkpoint/piecewise_crc32c.h"

#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace lathe {
namespace {

TEST(PiecewiseCrc32cTest, EqualsTheWholeFileInAnyOrderAndOverAnyRanks) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 300; ++round) {
    std::string file(random() % 5000, '\0');
    for (char& c : file) c = static_cast<char>(random());
    // Cut at random places.
    std::vector<std::pair<size_t, size_t>> pieces;
    for (size_t at = 0; at < file.size();) {
      const size_t length = 1 + random() % std::min<size_t>(file.size() - at, 1 + random() % 900);
      pieces.emplace_back(at, length);
      at += length;
    }
    std::shuffle(pieces.begin(), pieces.end(), random);
    std::vector<PiecewiseCrc32c> ranks(1 + random() % 4, PiecewiseCrc32c(file.size()));
    for (const auto& [at, length] : pieces) {
      ranks[random() % ranks.size()].Add(at, std::string_view(file).substr(at, length));
    }
    PiecewiseCrc32c all(file.size());
    for (const PiecewiseCrc32c& rank : ranks) {
      all.Merge(PiecewiseCrc32c(rank.file_bytes(), rank.num_bytes(), rank.contribution()));
    }
    EXPECT_EQ(all.num_bytes(), file.size());
    EXPECT_EQ(all.Total(), absl::ComputeCrc32c(file));
  }
}

TEST(PiecewiseCrc32cTest, SeesAFlippedBitAndAPieceOutOfPlace) {
  const std::string file = "weights and biases, in that order";
  PiecewiseCrc32c moved(file.size());
  moved.Add(0, file.substr(16));
  moved.Add(file.size() - 16, file.substr(0, 16));
  EXPECT_NE(moved.Total(), absl::ComputeCrc32c(file));
  for (size_t bit = 0; bit < file.size() * 8; ++bit) {
    std::string flipped = file;
    flipped[bit / 8] ^= 1 << (bit % 8);
    PiecewiseCrc32c damaged(file.size());
    damaged.Add(0, flipped);
    EXPECT_NE(damaged.Total(), absl::ComputeCrc32c(file));
  }
}

}  // namespace
}  // namespace lathe
