#include "lathe/datasets/tokenizers/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>

#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/datasets/tokenizers/byte_level.h"
#include "lathe/datasets/tokenizers/json_fields.h"

namespace lathe {
namespace {

// Up to here a search through a row is faster than a heap.
constexpr size_t kShortPiece = 128;

uint64_t PairOf(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

uint64_t RankOf(uint64_t merge) { return merge >> 32; }
int32_t ResultOf(uint64_t merge) { return static_cast<int32_t>(merge & 0xFFFFFFFF); }

absl::Status DanglingMerge(size_t rank, const std::pair<std::string, std::string>& merge,
                           const std::string& missing) {
  return absl::InvalidArgumentError(absl::StrCat(
      "model.merges[", rank, "] joins ", Abbreviate(merge.first), " and ", Abbreviate(merge.second),
      ", but ", Abbreviate(missing), " is not in model.vocab"));
}

}  // namespace

absl::StatusOr<Bpe> Bpe::Create(const Vocabulary& vocabulary,
                                const std::vector<std::pair<std::string, std::string>>& merges,
                                const Options& options) {
  Bpe bpe;
  bool all_bytes = true;
  for (int b = 0; b < 256; ++b) {
    bpe.id_of_byte_[b] = vocabulary.Find(ByteLevelCharacter(static_cast<uint8_t>(b)));
    all_bytes = all_bytes && bpe.id_of_byte_[b] >= 0;
  }
  if (!options.unk_token.empty()) {
    bpe.unk_id_ = vocabulary.Find(options.unk_token);
    if (bpe.unk_id_ < 0 && !all_bytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("model.unk_token ", Abbreviate(options.unk_token),
                       " is not in model.vocab, and some bytes need it"));
    }
  }
  bpe.fuse_unk_ = options.fuse_unk;

  const size_t num_slots = std::bit_ceil(std::max<size_t>(16, merges.size() + merges.size() / 2));
  bpe.merges_.resize(num_slots);
  bpe.merges_shift_ = 64 - std::countr_zero(num_slots);
  std::string joined;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    joined.assign(left).append(right);
    const int32_t left_id = vocabulary.Find(left);
    const int32_t right_id = vocabulary.Find(right);
    const int32_t joined_id = vocabulary.Find(joined);
    if (left_id < 0) return DanglingMerge(rank, merges[rank], left);
    if (right_id < 0) return DanglingMerge(rank, merges[rank], right);
    if (joined_id < 0) return DanglingMerge(rank, merges[rank], joined);
    bpe.InsertMerge(PairOf(left_id, right_id), static_cast<uint64_t>(rank) << 32 | joined_id);
  }
  bpe.byte_merges_.resize(1 << 16, kNoMerge);
  for (size_t pair = 0; pair < bpe.byte_merges_.size(); ++pair) {
    const auto id = [&](size_t byte) {
      return bpe.id_of_byte_[byte] < 0 ? bpe.unk_id_ : bpe.id_of_byte_[byte];
    };
    bpe.byte_merges_[pair] = bpe.FindMerge(id(pair >> 8), id(pair & 0xFF));
  }
  if (options.ignore_merges) {
    std::string bytes;
    for (int32_t id = 0; id < vocabulary.end_id(); ++id) {
      const std::string* token = vocabulary.Token(id);
      bytes.clear();
      if (token != nullptr && AppendByteLevelBytes(*token, &bytes))
        bpe.whole_pieces_.emplace(bytes, id);
    }
  }
  return bpe;
}

void Bpe::InsertMerge(uint64_t pair, uint64_t merge) {
  const size_t mask = merges_.size() - 1;
  size_t slot = (pair * 0x9E3779B97F4A7C15u) >> merges_shift_;
  while (merges_[slot].pair != kNoMerge && merges_[slot].pair != pair) slot = (slot + 1) & mask;
  merges_[slot] = {pair,
                   merge};  // of a pair that comes twice the last rank holds, as in Hugging Face
}

uint64_t Bpe::FindMerge(int32_t left, int32_t right) const {
  const uint64_t pair = PairOf(left, right);
  const size_t mask = merges_.size() - 1;
  size_t slot = (pair * 0x9E3779B97F4A7C15u) >> merges_shift_;
  while (true) {
    const MergeSlot& found = merges_[slot];
    if (found.pair == pair) return found.merge;
    if (found.pair == kNoMerge) return kNoMerge;
    slot = (slot + 1) & mask;
  }
}

size_t Bpe::BytesToIds(std::string_view piece, int32_t* ids) const {
  size_t size = 0;
  bool after_unk = false;
  for (const char c : piece) {
    int32_t id = id_of_byte_[static_cast<uint8_t>(c)];
    const bool is_unk = id < 0;
    if (is_unk) {
      if (unk_id_ < 0 || (after_unk && fuse_unk_)) continue;
      id = unk_id_;
    }
    ids[size++] = id;
    after_unk = is_unk;
  }
  return size;
}

size_t Bpe::Encode(std::string_view piece, Scratch* scratch, int32_t* ids) const {
  if (!whole_pieces_.empty()) {
    if (const auto it = whole_pieces_.find(piece); it != whole_pieces_.end()) {
      ids[0] = it->second;
      return 1;
    }
  }
  const size_t size = BytesToIds(piece, ids);
  return size <= kShortPiece ? MergeShort(piece, size, ids) : MergeLong(piece, size, scratch, ids);
}

void Bpe::FindFirstMerges(std::string_view piece, const int32_t* ids, size_t size,
                          uint64_t* merge_at) const {
  if (size != piece.size()) {  // some bytes were dropped
    for (size_t i = 0; i + 1 < size; ++i) merge_at[i] = FindMerge(ids[i], ids[i + 1]);
    return;
  }
  for (size_t i = 0; i + 1 < size; ++i) {
    merge_at[i] =
        byte_merges_[static_cast<uint8_t>(piece[i]) << 8 | static_cast<uint8_t>(piece[i + 1])];
  }
}

size_t Bpe::MergeShort(std::string_view piece, size_t size, int32_t* ids) const {
  uint64_t merge_at[kShortPiece];  // of ids[i] and ids[i + 1]
  FindFirstMerges(piece, ids, size, merge_at);
  while (size > 1) {
    const size_t pairs = size - 1;
    size_t best = 0;
    for (size_t i = 1; i < pairs; ++i) {
      if (merge_at[i] < merge_at[best]) best = i;
    }
    if (merge_at[best] == kNoMerge) break;
    ids[best] = ResultOf(merge_at[best]);
    std::memmove(ids + best + 1, ids + best + 2, (size - best - 2) * sizeof(ids[0]));
    if (best + 1 < pairs) {
      std::memmove(merge_at + best, merge_at + best + 1, (pairs - best - 1) * sizeof(merge_at[0]));
    }
    --size;
    if (best > 0) merge_at[best - 1] = FindMerge(ids[best - 1], ids[best]);
    if (best + 1 < size) merge_at[best] = FindMerge(ids[best], ids[best + 1]);
  }
  return size;
}

size_t Bpe::MergeLong(std::string_view piece, size_t size, Scratch* scratch, int32_t* ids) const {
  // Symbols stay where they began; `next` and `previous` link those that are left. An entry of the
  // heap is rank << 32 | position; it is stale when the pair at the position has changed, which
  // changes its rank.
  auto& [heap, merge_at, next, previous] = *scratch;
  heap.clear();
  merge_at.assign(size, kNoMerge);
  FindFirstMerges(piece, ids, size, merge_at.data());
  next.resize(size);
  previous.resize(size);
  const auto entry = [&](size_t i) { return RankOf(merge_at[i]) << 32 | i; };
  for (size_t i = 0; i < size; ++i) {
    next[i] = static_cast<uint32_t>(i + 1);
    previous[i] = static_cast<uint32_t>(i - 1);  // of the first one never read
    if (merge_at[i] != kNoMerge) heap.push_back(entry(i));
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto update = [&](size_t i) {
    merge_at[i] = FindMerge(ids[i], ids[next[i]]);
    if (merge_at[i] == kNoMerge) return;
    heap.push_back(entry(i));
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const uint64_t top = heap.back();
    heap.pop_back();
    const size_t at = top & 0xFFFFFFFF;
    if (merge_at[at] == kNoMerge || entry(at) != top) continue;
    const size_t removed = next[at];
    ids[at] = ResultOf(merge_at[at]);
    merge_at[removed] = kNoMerge;
    next[at] = next[removed];
    if (next[at] < size) previous[next[at]] = static_cast<uint32_t>(at);
    if (at > 0) update(previous[at]);
    if (next[at] < size) {
      update(at);
    } else {
      merge_at[at] = kNoMerge;
    }
  }
  size_t left = 0;
  for (size_t i = 0; i < size; i = next[i]) ids[left++] = ids[i];
  return left;
}

}  // namespace lathe
