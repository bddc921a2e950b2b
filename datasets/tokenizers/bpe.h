// Byte-pair encoding: from the bytes of one piece to ids, by the ranks of the merges.
//
// Of all neighbours that a merge joins, those of the lowest rank are joined first, the leftmost
// first among equals, until no merge applies. Short pieces search the lowest rank in a row of
// numbers; long ones keep a heap, so a piece of n bytes takes O(n log n).
//
// Example:
//   ABSL_ASSIGN_OR_RETURN(Bpe bpe, Bpe::Create(vocabulary, merges, options));
//   Bpe::Scratch scratch;
//   int32_t ids[16];
//   size_t n = bpe.Encode("hello", &scratch, ids);
//
// Immutable; any number of threads may call Encode, each with its own Scratch.
#ifndef LATHE_DATASETS_TOKENIZERS_BPE_H_
#define LATHE_DATASETS_TOKENIZERS_BPE_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "lathe/datasets/tokenizers/vocabulary.h"

namespace lathe {

class Bpe {
 public:
  struct Options {
    std::string
        unk_token;  // stands for bytes that are not in the vocabulary; empty: they are dropped
    bool fuse_unk = false;       // one unk_token for several such bytes in a row
    bool ignore_merges = false;  // a piece that is a token as a whole is not split
  };

  // Buffers of a long piece.
  struct Scratch {
    std::vector<uint64_t> heap;
    std::vector<uint64_t> merge_at;
    std::vector<uint32_t> next;
    std::vector<uint32_t> previous;
  };

  // Errors: InvalidArgument when a merge joins or gives a token that the vocabulary lacks, naming
  // it.
  static absl::StatusOr<Bpe> Create(const Vocabulary& vocabulary,
                                    const std::vector<std::pair<std::string, std::string>>& merges,
                                    const Options& options);

  // Writes the ids of `piece` to `ids`, which must have room for piece.size() of them, and returns
  // their number.
  size_t Encode(std::string_view piece, Scratch* scratch, int32_t* ids) const;

 private:
  static constexpr uint64_t kNoMerge = ~uint64_t{0};

  // What a pair of ids gives: rank << 32 | id of the result.
  struct MergeSlot {
    uint64_t pair = kNoMerge;  // left << 32 | right
    uint64_t merge = kNoMerge;
  };

  void InsertMerge(uint64_t pair, uint64_t merge);
  // rank << 32 | result, or kNoMerge, which compares as the worst rank.
  uint64_t FindMerge(int32_t left, int32_t right) const;

  size_t BytesToIds(std::string_view piece, int32_t* ids) const;
  // The merges of neighbours before any is done, where `ids` are `size` ids of the bytes of
  // `piece`.
  void FindFirstMerges(std::string_view piece, const int32_t* ids, size_t size,
                       uint64_t* merge_at) const;
  size_t MergeShort(std::string_view piece, size_t size, int32_t* ids) const;
  size_t MergeLong(std::string_view piece, size_t size, Scratch* scratch, int32_t* ids) const;

  std::array<int32_t, 256> id_of_byte_;
  int32_t unk_id_ = -1;
  bool fuse_unk_ = false;
  std::vector<MergeSlot> merges_;  // open addressing; the size is a power of two
  int merges_shift_ = 0;
  // What FindMerge gives for two bytes: most look-ups are of these, and few enough to stay in the
  // processor's cache.
  std::vector<uint64_t> byte_merges_;
  absl::flat_hash_map<std::string, int32_t> whole_pieces_;  // filled when ignore_merges
};

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKENIZERS_BPE_H_
