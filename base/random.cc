#include "lathe/base/random.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

#include "absl/log/absl_check.h"

namespace lathe {
namespace {

// Philox blocks (of four words) that are computed together. The loops below have this constant trip
// count and no branches, so that compilers turn them into vector code at -O2.
constexpr int kBlocks = 64;
constexpr int kChunk = 4 * kBlocks;

constexpr uint64_t kLow32 = 0xffffffff;
// A double with this exponent has its integer value in the low mantissa bits: the exact and
// branch-free conversion of an unsigned 32-bit integer.
constexpr uint64_t kExponent52 = 0x4330000000000000;
constexpr double kTwo52 = 4503599627370496.0;

double ToDouble(uint64_t small_integer) {
  return std::bit_cast<double>(small_integer | kExponent52) - kTwo52;
}

struct Words {
  uint32_t lane[4][kBlocks];
};

struct Normals {
  double lane[4][kBlocks];
};

inline void PhiloxBlock(uint64_t& c0, uint64_t& c1, uint64_t& c2, uint64_t& c3, uint32_t key0,
                        uint32_t key1) {
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = (c0 & kLow32) * uint64_t{0xD2511F53};
    const uint64_t product1 = (c2 & kLow32) * uint64_t{0xCD9E8D57};
    c0 = (product1 >> 32) ^ c1 ^ key0;
    c1 = product1 & kLow32;
    c2 = (product0 >> 32) ^ c3 ^ key1;
    c3 = product0 & kLow32;
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
}

void ComputeWords(std::array<uint32_t, 2> key, uint64_t counter_high, uint64_t first_block,
                  Words& words) {
  for (int i = 0; i < kBlocks; ++i) {
    const uint64_t block = first_block + i;
    uint64_t c0 = block & kLow32, c1 = block >> 32;
    uint64_t c2 = counter_high & kLow32, c3 = counter_high >> 32;
    PhiloxBlock(c0, c1, c2, c3, key[0], key[1]);
    words.lane[0][i] = static_cast<uint32_t>(c0);
    words.lane[1][i] = static_cast<uint32_t>(c1);
    words.lane[2][i] = static_cast<uint32_t>(c2);
    words.lane[3][i] = static_cast<uint32_t>(c3);
  }
}

inline double UniformOf(uint32_t word) { return (ToDouble(word) + 0.5) * 0x1p-32; }

// Natural logarithm of x in (0, 1), to about one unit in the last place: x = 2^k * m with m in
// [sqrt(1/2), sqrt(2)), ln m = 2 artanh(s) with s = (m - 1) / (m + 1), |s| < 0.172, whose series is
// below one ulp after s^23.
inline double Log(double x) {
  constexpr uint64_t kSqrtHalf = 0x3fe6a09e667f3bcd;
  const uint64_t shifted = std::bit_cast<uint64_t>(x) + (0x3ff0000000000000 - kSqrtHalf);
  const double k = ToDouble(shifted >> 52) - 1023.0;
  const double m = std::bit_cast<double>((shifted & 0x000fffffffffffff) + kSqrtHalf);
  const double s = (m - 1.0) / (m + 1.0);
  const double q = s * s;
  double series = 1.0 / 23;
  series = series * q + 1.0 / 21;
  series = series * q + 1.0 / 19;
  series = series * q + 1.0 / 17;
  series = series * q + 1.0 / 15;
  series = series * q + 1.0 / 13;
  series = series * q + 1.0 / 11;
  series = series * q + 1.0 / 9;
  series = series * q + 1.0 / 7;
  series = series * q + 1.0 / 5;
  series = series * q + 1.0 / 3;
  series = series * q + 1.0;
  return k * 0.69314718055994530942 + 2.0 * s * series;
}

constexpr double InverseFactorial(int n) { return n <= 1 ? 1.0 : InverseFactorial(n - 1) / n; }

// Cosine and sine of 2 pi (word + 1/2) / 2^32. The nearest multiple of a quarter turn is taken off
// in integers, exactly, which leaves an angle of at most pi/4 for the two Taylor series.
inline void CosSin(uint32_t word, double& cosine, double& sine) {
  const uint32_t turned = word + 0x20000000u;
  const uint64_t quadrant = turned >> 30;
  const double offset = ToDouble(turned & 0x3fffffffu) - 536870912.0 + 0.5;
  const double angle = offset * (1.57079632679489661923 * 0x1p-30);
  const double g = angle * angle;
  double s = InverseFactorial(17);
  s = s * g - InverseFactorial(15);
  s = s * g + InverseFactorial(13);
  s = s * g - InverseFactorial(11);
  s = s * g + InverseFactorial(9);
  s = s * g - InverseFactorial(7);
  s = s * g + InverseFactorial(5);
  s = s * g - InverseFactorial(3);
  s = (s * g + 1.0) * angle;
  double c = InverseFactorial(16);
  c = c * g - InverseFactorial(14);
  c = c * g + InverseFactorial(12);
  c = c * g - InverseFactorial(10);
  c = c * g + InverseFactorial(8);
  c = c * g - InverseFactorial(6);
  c = c * g + InverseFactorial(4);
  c = c * g - InverseFactorial(2);
  c = c * g + 1.0;
  // Quadrants 1 and 3 swap the two; cosine is negative in 1 and 2, sine in 2 and 3.
  const uint64_t c_bits = std::bit_cast<uint64_t>(c);
  const uint64_t s_bits = std::bit_cast<uint64_t>(s);
  const uint64_t swap = (c_bits ^ s_bits) & (uint64_t{0} - (quadrant & 1));
  cosine = std::bit_cast<double>(c_bits ^ swap ^ ((((quadrant + 1) >> 1) & 1) << 63));
  sine = std::bit_cast<double>(s_bits ^ swap ^ (((quadrant >> 1) & 1) << 63));
}

inline void BoxMuller(uint32_t word0, uint32_t word1, double& z0, double& z1) {
  const double radius = std::sqrt(-2.0 * Log(UniformOf(word0)));
  double cosine, sine;
  CosSin(word1, cosine, sine);
  z0 = radius * cosine;
  z1 = radius * sine;
}

void ComputeNormals(const Words& words, Normals& normals) {
  for (int pair = 0; pair < 4; pair += 2) {
    for (int i = 0; i < kBlocks; ++i) {
      BoxMuller(words.lane[pair][i], words.lane[pair + 1][i], normals.lane[pair][i],
                normals.lane[pair + 1][i]);
    }
  }
}

// Cuts [first, first + out.size()) at the chunk grid, has compute(first_block, buffer) fill the
// kChunk elements of each chunk, and copies those asked for.
template <typename T, typename Compute>
void FillChunks(int64_t first, absl::Span<T> out, Compute compute) {
  ABSL_CHECK_GE(first, 0);
  T chunk[kChunk];
  int64_t done = 0;
  const int64_t count = static_cast<int64_t>(out.size());
  while (done < count) {
    const int64_t element = first + done;
    const int64_t skip = element % 4;
    const int64_t take = std::min(kChunk - skip, count - done);
    compute(static_cast<uint64_t>(element / 4), chunk);
    std::copy_n(chunk + skip, take, out.data() + done);
    done += take;
  }
}

template <typename T>
void FillNormalOf(std::array<uint32_t, 2> key, uint64_t counter_high, double mean, double std,
                  int64_t first, absl::Span<T> out) {
  FillChunks<T>(first, out, [=](uint64_t first_block, T* chunk) {
    Words words;
    Normals normals;
    ComputeWords(key, counter_high, first_block, words);
    ComputeNormals(words, normals);
    for (int i = 0; i < kBlocks; ++i) {
      for (int j = 0; j < 4; ++j)
        chunk[4 * i + j] = static_cast<T>(mean + std * normals.lane[j][i]);
    }
  });
}

template <typename T>
void FillUniformOf(std::array<uint32_t, 2> key, uint64_t counter_high, double low, double high,
                   int64_t first, absl::Span<T> out) {
  const double range = high - low;
  FillChunks<T>(first, out, [=](uint64_t first_block, T* chunk) {
    Words words;
    ComputeWords(key, counter_high, first_block, words);
    for (int i = 0; i < kBlocks; ++i) {
      for (int j = 0; j < 4; ++j) {
        chunk[4 * i + j] = static_cast<T>(low + range * UniformOf(words.lane[j][i]));
      }
    }
  });
}

std::string LittleEndian(uint64_t value) {
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(value >> (8 * i));
  return bytes;
}

// Each part is preceded by its length, so that no two lists of parts give the same bytes.
std::string IdentityBytes(uint64_t seed, std::string_view purpose, char kind,
                          std::string_view name) {
  std::string bytes = LittleEndian(seed);
  bytes += LittleEndian(purpose.size());
  bytes += purpose;
  bytes += kind;
  bytes += LittleEndian(name.size());
  bytes += name;
  return bytes;
}

std::string NumberBytes(std::initializer_list<uint64_t> numbers) {
  std::string bytes;
  for (uint64_t number : numbers) bytes += LittleEndian(number);
  return bytes;
}

// FNV-1a mixes its last bytes poorly; two xor-shift-multiply steps (Stafford's variant 13) spread
// every input bit over the whole word.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

std::array<uint32_t, 2> KeyOf(std::string_view identity) {
  const uint64_t hash = Mix(StreamHash(kStreamHashStart, identity));
  return {static_cast<uint32_t>(hash), static_cast<uint32_t>(hash >> 32)};
}

uint64_t CounterHighOf(std::string_view identity) {
  return Mix(StreamHash(StreamHash(kStreamHashStart, "counter"), identity));
}

}  // namespace

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  uint64_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
  PhiloxBlock(c0, c1, c2, c3, key[0], key[1]);
  return {static_cast<uint32_t>(c0), static_cast<uint32_t>(c1), static_cast<uint32_t>(c2),
          static_cast<uint32_t>(c3)};
}

uint64_t StreamHash(uint64_t state, std::string_view bytes) {
  for (char byte : bytes) state = (state ^ static_cast<uint8_t>(byte)) * 0x100000001b3;
  return state;
}

KeyedStream::KeyedStream(uint64_t seed, std::string_view purpose, std::string_view name)
    : key_(KeyOf(IdentityBytes(seed, purpose, 's', name))),
      counter_high_(CounterHighOf(IdentityBytes(seed, purpose, 's', name))) {}

KeyedStream::KeyedStream(uint64_t seed, std::string_view purpose,
                         std::initializer_list<uint64_t> name)
    : key_(KeyOf(IdentityBytes(seed, purpose, 'n', NumberBytes(name)))),
      counter_high_(CounterHighOf(IdentityBytes(seed, purpose, 'n', NumberBytes(name)))) {}

uint32_t KeyedStream::Uint32(int64_t index) const {
  ABSL_CHECK_GE(index, 0);
  const uint64_t block = static_cast<uint64_t>(index) / 4;
  return Philox4x32(
      {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
       static_cast<uint32_t>(counter_high_), static_cast<uint32_t>(counter_high_ >> 32)},
      key_)[index % 4];
}

double KeyedStream::Uniform(int64_t index) const { return UniformOf(Uint32(index)); }

double KeyedStream::Normal(int64_t index) const {
  const int64_t pair = index - index % 2;
  double z0, z1;
  BoxMuller(Uint32(pair), Uint32(pair + 1), z0, z1);
  return index % 2 == 0 ? z0 : z1;
}

void KeyedStream::FillNormal(double mean, double standard_deviation, int64_t first,
                             absl::Span<float> out) const {
  FillNormalOf(key_, counter_high_, mean, standard_deviation, first, out);
}

void KeyedStream::FillNormal(double mean, double standard_deviation, int64_t first,
                             absl::Span<double> out) const {
  FillNormalOf(key_, counter_high_, mean, standard_deviation, first, out);
}

void KeyedStream::FillUniform(double low, double high, int64_t first, absl::Span<float> out) const {
  FillUniformOf(key_, counter_high_, low, high, first, out);
}

void KeyedStream::FillUniform(double low, double high, int64_t first,
                              absl::Span<double> out) const {
  FillUniformOf(key_, counter_high_, low, high, first, out);
}

void KeyedStream::FillBernoulli(double probability, int64_t first, absl::Span<uint8_t> out) const {
  ABSL_CHECK(probability >= 0 && probability <= 1) << probability;
  const uint64_t limit = static_cast<uint64_t>(std::llround(probability * 0x1p32));
  FillChunks<uint8_t>(first, out, [this, limit](uint64_t first_block, uint8_t* chunk) {
    Words words;
    ComputeWords(key_, counter_high_, first_block, words);
    for (int i = 0; i < kBlocks; ++i) {
      for (int j = 0; j < 4; ++j) chunk[4 * i + j] = words.lane[j][i] < limit ? 1 : 0;
    }
  });
}

}  // namespace lathe
