#include "lathe/base/random.h"

#include <cmath>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

using Words = std::array<uint32_t, 4>;

// The known-answer vectors that are published with the reference implementation (Random123,
// kat_vectors).
TEST(PhiloxTest, KnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// Published test vectors of FNV-1a 64.
TEST(StreamHashTest, KnownAnswers) {
  EXPECT_EQ(StreamHash(kStreamHashStart, ""), 0xcbf29ce484222325u);
  EXPECT_EQ(StreamHash(kStreamHashStart, "a"), 0xaf63dc4c8601ec8cu);
  EXPECT_EQ(StreamHash(kStreamHashStart, "foobar"), 0x85944171f73967e8u);
}

// Our own numbers, written down: they must never change, since the same command must give the same
// model in every later version.
TEST(KeyedStreamTest, TheBitsStay) {
  const KeyedStream stream(42, "init", "model.embed_tokens.weight");
  EXPECT_EQ(stream.Uint32(0), 3428504612u);
  EXPECT_EQ(stream.Uint32(1), 3177397104u);
  EXPECT_EQ(stream.Uint32(int64_t{1} << 40), 2153527550u);
  EXPECT_EQ(stream.Normal(0), -0.043012265785087211);
  EXPECT_EQ(stream.Normal(1), -0.66991748803259377);
  EXPECT_EQ(KeyedStream(42, "dropout", {7, 1, 0}).Uint32(0), 477171458u);
  std::vector<double> normals(100000);
  stream.FillNormal(0, 1, 0, absl::MakeSpan(normals));
  uint64_t hash = kStreamHashStart;
  for (double z : normals) {
    hash = StreamHash(hash, std::string_view(reinterpret_cast<const char*>(&z), sizeof(z)));
  }
  EXPECT_EQ(hash, 1955981658415943961u);
}

TEST(KeyedStreamTest, EveryPartOfTheKeyGivesAnotherStream) {
  std::set<std::vector<uint32_t>> seen;
  auto add = [&](const KeyedStream& stream) {
    EXPECT_TRUE(seen.insert({stream.Uint32(0), stream.Uint32(1), stream.Uint32(2)}).second);
  };
  add(KeyedStream(1, "init", "a"));
  add(KeyedStream(2, "init", "a"));
  add(KeyedStream(1, "dropout", "a"));
  add(KeyedStream(1, "init", "b"));
  // The border between purpose and name counts.
  add(KeyedStream(1, "inita", ""));
  add(KeyedStream(1, "", "inita"));
  add(KeyedStream(1, "ini", "ta"));
  // Numbers are not the string of their bytes, and their order and count matter.
  add(KeyedStream(1, "init", {0}));
  add(KeyedStream(1, "init", std::string_view("\0\0\0\0\0\0\0\0", 8)));
  add(KeyedStream(1, "init", {0, 0}));
  add(KeyedStream(1, "init", {0, 1}));
  add(KeyedStream(1, "init", {1, 0}));
  for (int layer = 0; layer < 2000; ++layer) {
    add(KeyedStream(1, "init", absl::StrCat("model.layers.", layer, ".mlp.up_proj.weight")));
  }
}

template <typename T>
void ExpectEveryRangeEqualsTheWhole() {
  const KeyedStream stream(5, "test", "ranges");
  constexpr int kCount = 1500;
  std::vector<T> normal(kCount), uniform(kCount);
  stream.FillNormal(0.5, 0.02, 0, absl::MakeSpan(normal));
  stream.FillUniform(-0.1, 0.3, 0, absl::MakeSpan(uniform));
  for (int i = 0; i < kCount; ++i) {
    ASSERT_EQ(normal[i], static_cast<T>(0.5 + 0.02 * stream.Normal(i))) << i;
    ASSERT_EQ(uniform[i], static_cast<T>(-0.1 + (0.3 - -0.1) * stream.Uniform(i))) << i;
  }
  for (int first = 0; first < 9; ++first) {
    for (int count : {0, 1, 2, 3, 4, 5, 63, 64, 255, 256, 257, 509, 1000}) {
      std::vector<T> part(count);
      stream.FillNormal(0.5, 0.02, first, absl::MakeSpan(part));
      ASSERT_TRUE(std::equal(part.begin(), part.end(), normal.begin() + first))
          << first << " " << count;
      stream.FillUniform(-0.1, 0.3, first, absl::MakeSpan(part));
      ASSERT_TRUE(std::equal(part.begin(), part.end(), uniform.begin() + first))
          << first << " " << count;
    }
  }
}

TEST(KeyedStreamTest, EveryRangeOfFloatsEqualsTheWhole) { ExpectEveryRangeEqualsTheWhole<float>(); }
TEST(KeyedStreamTest, EveryRangeOfDoublesEqualsTheWhole) {
  ExpectEveryRangeEqualsTheWhole<double>();
}

TEST(KeyedStreamTest, IndicesBeyond32BitsAreTheirOwn) {
  const KeyedStream stream(5, "test", "far");
  const int64_t far = (int64_t{1} << 36) - 3;
  std::vector<double> out(8);
  stream.FillUniform(0, 1, far, absl::MakeSpan(out));
  for (int k = 0; k < 8; ++k) {
    EXPECT_EQ(out[k], stream.Uniform(far + k));
    EXPECT_NE(out[k], stream.Uniform((far + k) & 0xffffffff));
    EXPECT_NE(out[k], stream.Uniform((far + k) & 0x3ffffffff));
  }
}

// Box-Muller against libm at random words. libm and our series are each within about one ulp, so
// 4e-15 on values up to 6.8 leaves a factor of two.
TEST(KeyedStreamTest, NormalIsBoxMuller) {
  const KeyedStream stream(9, "test", "libm");
  for (int64_t i = 0; i < 200000; i += 2) {
    const double radius = std::sqrt(-2 * std::log(stream.Uniform(i)));
    const double angle = 2 * M_PI * stream.Uniform(i + 1);
    ASSERT_NEAR(stream.Normal(i), radius * std::cos(angle), 4e-15) << i;
    ASSERT_NEAR(stream.Normal(i + 1), radius * std::sin(angle), 4e-15) << i;
  }
}

// Over n = 4,000,000 samples the k-th moment of a standard normal has a standard error of
// sqrt(E z^2k - (E z^k)^2) / sqrt(n); the bounds are five of them.
TEST(KeyedStreamTest, NormalMomentsAndIndependence) {
  constexpr int kCount = 4000000;
  std::vector<double> z(kCount);
  KeyedStream(3, "test", "moments").FillNormal(0, 1, 0, absl::MakeSpan(z));
  double sum = 0, sum2 = 0, sum3 = 0, sum4 = 0, lag1 = 0, lag2 = 0, largest = 0;
  for (int i = 0; i < kCount; ++i) {
    sum += z[i];
    sum2 += z[i] * z[i];
    sum3 += z[i] * z[i] * z[i];
    sum4 += z[i] * z[i] * z[i] * z[i];
    if (i >= 1) lag1 += z[i] * z[i - 1];
    if (i >= 2) lag2 += z[i] * z[i - 2];
    largest = std::max(largest, std::abs(z[i]));
  }
  const double error = 5 / std::sqrt(kCount);
  EXPECT_NEAR(sum / kCount, 0, error);
  EXPECT_NEAR(sum2 / kCount, 1, error * std::sqrt(2.0));
  EXPECT_NEAR(sum3 / kCount, 0, error * std::sqrt(15.0));
  EXPECT_NEAR(sum4 / kCount, 3, error * std::sqrt(96.0));
  EXPECT_NEAR(lag1 / kCount, 0, error);
  EXPECT_NEAR(lag2 / kCount, 0, error);
  EXPECT_GT(largest, 4.5);
  EXPECT_LT(largest, 6.77);
}

TEST(KeyedStreamTest, UniformFillsItsRangeEvenly) {
  constexpr int kCount = 1000000, kBins = 100;
  std::vector<float> u(kCount);
  KeyedStream(3, "test", "bins").FillUniform(-2, 3, 0, absl::MakeSpan(u));
  std::vector<int> bins(kBins);
  for (float x : u) {
    ASSERT_GE(x, -2);
    ASSERT_LE(x, 3);
    ++bins[std::min(kBins - 1, static_cast<int>((x + 2) / 5 * kBins))];
  }
  double chi2 = 0;
  for (int n : bins) chi2 += (n - kCount / kBins) * double(n - kCount / kBins) / (kCount / kBins);
  // 99 degrees of freedom: mean 99, standard deviation 14; six of them.
  EXPECT_LT(chi2, 99 + 84);
  EXPECT_GT(chi2, 99 - 70);
}

TEST(KeyedStreamTest, BernoulliHasItsProbabilityAndExactEnds) {
  const KeyedStream stream(3, "test", "mask");
  constexpr int kCount = 1000000;
  std::vector<uint8_t> mask(kCount);
  for (double p : {0.0, 1e-3, 0.1, 0.5, 0.9, 1.0}) {
    stream.FillBernoulli(p, 0, absl::MakeSpan(mask));
    int64_t ones = 0;
    for (uint8_t m : mask) ones += m;
    EXPECT_NEAR(ones, p * kCount, 5 * std::sqrt(p * (1 - p) * kCount)) << p;
  }
  std::vector<uint8_t> part(100);
  stream.FillBernoulli(0.5, 0, absl::MakeSpan(mask));
  stream.FillBernoulli(0.5, 777, absl::MakeSpan(part));
  EXPECT_TRUE(std::equal(part.begin(), part.end(), mask.begin() + 777));
}

}  // namespace
}  // namespace lathe
