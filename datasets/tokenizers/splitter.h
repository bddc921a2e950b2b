// Splitter: one step of a pre-tokenizer, which cuts a text into pieces.
//
// A splitter only cuts: joined, the pieces are the text again, except where a pattern's behavior is
// "Removed". It is handed a piece of the step before it, and sees nothing around that piece, so `$`
// and look-ahead end there.
//
// Splitters are immutable after construction and may be used from many threads at once.
#ifndef LATHE_DATASETS_TOKENIZERS_SPLITTER_H_
#define LATHE_DATASETS_TOKENIZERS_SPLITTER_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace lathe {

// The bytes [begin, end) of a text shorter than 4 GiB.
struct Piece {
  uint32_t begin;
  uint32_t end;
};

class Splitter {
 public:
  virtual ~Splitter() = default;

  // Appends pieces of `text`, which must be valid UTF-8, from byte `*position` on, and moves
  // `*position` to where the next call must go on; at text.size() the text is done. A call stops
  // after some hundreds of pieces where it can, so that a long text needs no long list. Empty
  // pieces are never appended. Errors: ResourceExhausted when a regular expression needs more steps
  // or memory than is allowed.
  virtual absl::Status Split(std::string_view text, size_t* position,
                             std::vector<Piece>* pieces) const = 0;

 protected:
  static constexpr size_t kPiecesPerCall = 256;
};

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKENIZERS_SPLITTER_H_
