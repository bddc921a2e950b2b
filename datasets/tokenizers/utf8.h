// UTF-8: checking, decoding, and repairing of byte strings.
//
// Example:
//   if (size_t bad = FindInvalidUtf8(line); bad != std::string_view::npos) return error_at(bad);
//   for (size_t i = 0; i < line.size();) {
//     CodePoint c = DecodeUtf8(line.data() + i);
//     i += c.num_bytes;
//   }
//
// All functions are pure and may be called from any thread.
#ifndef LATHE_DATASETS_TOKENIZERS_UTF8_H_
#define LATHE_DATASETS_TOKENIZERS_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace lathe {

struct CodePoint {
  uint32_t value;
  uint32_t num_bytes;  // 1 to 4
};

// Decodes the code point that starts at `p`, which must be the first byte of one in valid UTF-8.
inline CodePoint DecodeUtf8(const char* p) {
  const auto* b = reinterpret_cast<const unsigned char*>(p);
  if (b[0] < 0x80) return {b[0], 1};
  if (b[0] < 0xE0) return {(b[0] & 0x1Fu) << 6 | (b[1] & 0x3Fu), 2};
  if (b[0] < 0xF0) return {(b[0] & 0x0Fu) << 12 | (b[1] & 0x3Fu) << 6 | (b[2] & 0x3Fu), 3};
  return {(b[0] & 0x07u) << 18 | (b[1] & 0x3Fu) << 12 | (b[2] & 0x3Fu) << 6 | (b[3] & 0x3Fu), 4};
}

// The code point that ends right before `end`, in valid UTF-8 that begins at or before it.
inline CodePoint DecodeUtf8Before(const char* end) {
  const char* p = end - 1;
  while ((static_cast<unsigned char>(*p) & 0xC0) == 0x80) --p;
  return DecodeUtf8(p);
}

// The offset of the first byte that is not part of well-formed UTF-8 (no overlong forms, no
// surrogates, nothing above U+10FFFF), or npos when all of `text` is well-formed.
size_t FindInvalidUtf8(std::string_view text);

// Replaces each maximal ill-formed part with U+FFFD, as Unicode recommends and as Rust's
// from_utf8_lossy and Python's errors="replace" do.
std::string ReplaceInvalidUtf8(std::string_view text);

// Appends `code_point`, which must be a Unicode scalar value, to `out` in UTF-8.
void AppendUtf8(uint32_t code_point, std::string* out);

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKENIZERS_UTF8_H_
