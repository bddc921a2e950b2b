// PieceCache: the ids of short pieces seen before, at one memory access each.
//
// Words repeat: in English text nine pieces of ten have been encoded before. A slot is 32 bytes, so
// two share a cache line; a piece that falls on a taken slot takes it over, which bounds the memory
// without any bookkeeping.
//
// Example:
//   const PieceCache::Key key = PieceCache::MakeKey(text, begin, length);
//   PieceCache::Slot& slot = cache.SlotOf(key);
//   if (slot.Holds(key)) { memcpy(out, slot.ids, sizeof(slot.ids)); out += slot.num_ids(); }
//
// Not thread-safe: each thread has its own.
#ifndef LATHE_DATASETS_TOKENIZERS_PIECE_CACHE_H_
#define LATHE_DATASETS_TOKENIZERS_PIECE_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>

namespace lathe {

class PieceCache {
 public:
  static constexpr size_t kMaxBytes = 15;
  static constexpr size_t kMaxIds = 4;

  // The bytes of a piece, padded with zeros, and its length in the highest byte.
  struct Key {
    uint64_t low;
    uint64_t high;
  };

  struct alignas(32) Slot {
    uint64_t low = 0;
    uint64_t high = 0;  // the key's, with the number of ids in bits 60 to 63; 0: empty
    int32_t ids[kMaxIds];

    bool Holds(const Key& key) const { return low == key.low && (high << 4) == (key.high << 4); }
    size_t num_ids() const { return high >> 60; }
  };

  PieceCache() : slots_(new Slot[kNumSlots]) {}

  // The key of the `length` bytes, 1 to kMaxBytes, of `text` at `begin`.
  static Key MakeKey(std::string_view text, size_t begin, size_t length) {
    uint64_t words[2] = {0, 0};
    if (begin + sizeof(words) <= text.size()) {
      std::memcpy(words, text.data() + begin, sizeof(words));
      // Shifting by 64 is undefined, hence the two steps.
      if (length >= 8) {
        words[1] &= (uint64_t{1} << 8 * (length - 8)) - 1;
      } else {
        words[0] &= (uint64_t{1} << 8 * length) - 1;
        words[1] = 0;
      }
    } else {
      std::memcpy(words, text.data() + begin, length);
    }
    return {words[0], words[1] | static_cast<uint64_t>(length) << 56};
  }

  Slot& SlotOf(const Key& key) const {
    const uint64_t mixed = (key.low ^ (key.high * 0x9E3779B97F4A7C15u)) * 0xD6E8FEB86659FD93u;
    return slots_[mixed >> (64 - kLogNumSlots)];
  }

  static void Store(const Key& key, const int32_t* ids, size_t num_ids, Slot* slot) {
    slot->low = key.low;
    slot->high = key.high | static_cast<uint64_t>(num_ids) << 60;
    std::memcpy(slot->ids, ids, num_ids * sizeof(ids[0]));
  }

 private:
  static constexpr int kLogNumSlots = 16;
  static constexpr size_t kNumSlots = size_t{1} << kLogNumSlots;

  std::unique_ptr<Slot[]> slots_;
};

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKENIZERS_PIECE_CACHE_H_
