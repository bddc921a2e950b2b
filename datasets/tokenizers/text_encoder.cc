#include "lathe/datasets/tokenizers/text_encoder.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "lathe/datasets/tokenizers/utf8.h"

namespace lathe {
namespace {

// Positions are 32 bits wide, and normalization may triple a text.
constexpr size_t kMaxTextBytes = 1 << 30;
constexpr size_t kKeptIds = 1 << 20;

// Calls `between` for each stretch without tokens and `token` for each added token, in order.
absl::Status ForEachPart(const AddedTokenFinder& finder, std::string_view text,
                         absl::FunctionRef<absl::Status(std::string_view)> between,
                         absl::FunctionRef<void(int32_t)> token) {
  size_t covered = 0, search_from = 0;
  AddedTokenFinder::Match match;
  while (!finder.empty() && finder.Next(text, covered, &search_from, &match)) {
    if (covered < match.begin) {
      ABSL_RETURN_IF_ERROR(between(text.substr(covered, match.begin - covered)));
    }
    token(match.id);
    covered = match.end;
  }
  return covered < text.size() ? between(text.substr(covered)) : absl::OkStatus();
}

}  // namespace

void IdBuffer::Reserve(size_t more) {
  if (size_ + more <= capacity_) return;
  capacity_ = std::max(size_ + more, 2 * capacity_);
  auto larger = std::make_unique_for_overwrite<int32_t[]>(capacity_);
  if (size_ > 0) std::memcpy(larger.get(), ids_.get(), size_ * sizeof(int32_t));
  ids_ = std::move(larger);
}

void IdBuffer::Append(int32_t id) {
  Reserve(1);
  ids_[size_++] = id;
}

void IdBuffer::Clear() {
  size_ = 0;
  if (capacity_ > kKeptIds) {
    ids_.reset();
    capacity_ = 0;
  }
}

TextEncoder::TextEncoder(AddedTokens added_tokens, Normalizer normalizer,
                         PreTokenizer pre_tokenizer, Bpe bpe, PostProcessor post_processor)
    : added_tokens_(std::move(added_tokens)),
      normalizer_(normalizer),
      pre_tokenizer_(std::move(pre_tokenizer)),
      bpe_(std::move(bpe)),
      post_processor_(std::move(post_processor)) {}

absl::Status TextEncoder::Encode(std::string_view text, bool add_special_tokens,
                                 Workspace* workspace) const {
  if (text.size() > kMaxTextBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the text has ", text.size(), " bytes; at most ",
                                                   kMaxTextBytes,
                                                   " can be encoded at once: split it"));
  }
  if (const size_t bad = FindInvalidUtf8(text); bad != std::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the text is not UTF-8: byte 0x%02X at offset %d",
                        static_cast<unsigned char>(text[bad]), bad));
  }
  IdBuffer& ids = workspace->ids;
  ids.Clear();
  if (add_special_tokens) {
    for (const int32_t id : post_processor_.prefix) ids.Append(id);
  }
  ABSL_RETURN_IF_ERROR(ForEachPart(
      added_tokens_.raw(), text,
      [&](std::string_view part) {
        return EncodeNormalized(normalizer_.Apply(part, &workspace->normalized), workspace);
      },
      [&](int32_t id) { ids.Append(id); }));
  if (add_special_tokens) {
    for (const int32_t id : post_processor_.suffix) ids.Append(id);
  }
  return absl::OkStatus();
}

absl::Status TextEncoder::EncodeNormalized(std::string_view text, Workspace* workspace) const {
  return ForEachPart(
      added_tokens_.normalized(), text,
      [&](std::string_view part) { return EncodeBetweenTokens(part, workspace); },
      [&](int32_t id) { workspace->ids.Append(id); });
}

absl::Status TextEncoder::EncodeBetweenTokens(std::string_view text, Workspace* workspace) const {
  return pre_tokenizer_.Run(text, &workspace->pre_tokenizer,
                            [&](std::string_view piece_text, absl::Span<const Piece> pieces) {
                              EncodePieces(piece_text, pieces, workspace);
                            });
}

void TextEncoder::EncodePieces(std::string_view text, absl::Span<const Piece> pieces,
                               Workspace* workspace) const {
  if (pieces.empty()) return;
  IdBuffer& ids = workspace->ids;
  // A piece gives at most one id per byte; a cached one writes a whole slot.
  ids.Reserve(pieces.back().end - pieces.front().begin + PieceCache::kMaxIds);
  int32_t* out = ids.end();
  for (const Piece& piece : pieces) {
    const size_t length = piece.end - piece.begin;
    if (length > PieceCache::kMaxBytes) {
      out += bpe_.Encode(text.substr(piece.begin, length), &workspace->bpe, out);
      continue;
    }
    const PieceCache::Key key = PieceCache::MakeKey(text, piece.begin, length);
    PieceCache::Slot& slot = workspace->cache.SlotOf(key);
    if (slot.Holds(key)) {
      std::memcpy(out, slot.ids, sizeof(slot.ids));
      out += slot.num_ids();
      continue;
    }
    const size_t num_ids = bpe_.Encode(text.substr(piece.begin, length), &workspace->bpe, out);
    if (num_ids <= PieceCache::kMaxIds) PieceCache::Store(key, out, num_ids, &slot);
    out += num_ids;
  }
  ids.set_end(out);
}

}  // namespace lathe
