#ifndef LATHE_BASE_RANDOM_H_
#define LATHE_BASE_RANDOM_H_

// Random numbers that are named, not drawn: element i of a stream is a function of (seed, purpose,
// name, i) and of nothing else. So a rank computes only the elements it owns, a restart needs no
// generator state, and neither initialisation nor dropout depends on how a model is laid out.
//
//   KeyedStream stream(/*seed=*/42, "init", "model.layers.0.self_attn.q_proj.weight");
//   std::vector<float> rows(count);
//   stream.FillNormal(0.0, 0.02, /*first=*/rank * count, absl::MakeSpan(rows));
//
//   KeyedStream mask_words(42, "dropout", {step, sample, layer, op});
//   mask_words.FillBernoulli(/*probability=*/0.9, first, absl::MakeSpan(keep));
//
// The bits are a promise: the same on every machine, compiler and number of threads, and for every
// way of cutting a range into calls. A change of any of the formulas below changes every model that
// anybody re-initialises; random_test.cc holds known answers against that.
//   identity  key and upper counter half = the two 64-bit hashes of (seed, purpose, name), see
//             StreamHash; with 128 bits in all, two names never share a stream in practice.
//   words     word i = output i mod 4 of Philox4x32-10 (Salmon et al., "Parallel random numbers: as
//             easy as 1, 2, 3", SC 2011) at counter (lower half) i div 4.
//   uniform   (word i + 1/2) * 2^-32, in double: never 0 and never 1.
//   normal    Box-Muller on the uniforms of elements 2j and 2j + 1, in double, by plain arithmetic
//   and
//             sqrt only (no libm, whose results differ between versions): |z| < 6.77.
//
// A KeyedStream is an immutable value: use it from any thread, cut big fills into ranges and run
// them in parallel.

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "absl/types/span.h"

namespace lathe {

// Philox4x32 with 10 rounds, the published function.
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// FNV-1a over `bytes` continued from `state`, the hash that names streams (start:
// kStreamHashStart).
inline constexpr uint64_t kStreamHashStart = 0xcbf29ce484222325;
uint64_t StreamHash(uint64_t state, std::string_view bytes);

class KeyedStream {
 public:
  // `purpose` says what the numbers are for ("init", "dropout"), `name` which of them they are.
  KeyedStream(uint64_t seed, std::string_view purpose, std::string_view name);

  // The same with numbers as the name; never equal to a stream named by a string.
  KeyedStream(uint64_t seed, std::string_view purpose, std::initializer_list<uint64_t> name);

  // Element `index` >= 0.
  uint32_t Uint32(int64_t index) const;
  double Uniform(int64_t index) const;
  double Normal(int64_t index) const;

  // out[k] = mean + standard_deviation * Normal(first + k), computed in double and rounded once.
  void FillNormal(double mean, double standard_deviation, int64_t first,
                  absl::Span<float> out) const;
  void FillNormal(double mean, double standard_deviation, int64_t first,
                  absl::Span<double> out) const;

  // out[k] = low + (high - low) * Uniform(first + k), computed in double and rounded once. Rounding
  // to float may give `low` or `high` itself.
  void FillUniform(double low, double high, int64_t first, absl::Span<float> out) const;
  void FillUniform(double low, double high, int64_t first, absl::Span<double> out) const;

  // out[k] = 1 with this probability, else 0: Uint32(first + k) < probability * 2^32. Exact at 0
  // and 1.
  void FillBernoulli(double probability, int64_t first, absl::Span<uint8_t> out) const;

 private:
  std::array<uint32_t, 2> key_;
  uint64_t counter_high_;
};

}  // namespace lathe

#endif  // LATHE_BASE_RANDOM_H_
