// The classes of characters that pre-tokenizers and added tokens ask for, for every code point.
//
// The table is read off the Hugging Face tokenizers library
// (tests/goldens/tokenizers/make_unicode_classes.py), whose two engines know different versions of
// Unicode; hence two bits for numbers.
//
// Example:
//   const UnicodeClasses& classes = UnicodeClasses::Get();
//   if (classes[code_point] & (kLetterClass | kMarkClass)) ...
//
// The table is built on first use and immutable; any thread may read it.
#ifndef LATHE_DATASETS_TOKENIZERS_UNICODE_CLASSES_H_
#define LATHE_DATASETS_TOKENIZERS_UNICODE_CLASSES_H_

#include <cstdint>
#include <vector>

namespace lathe {

enum UnicodeClass : uint8_t {
  kLetterClass = 1,       // \p{L}
  kMarkClass = 2,         // \p{M}
  kNumberClass = 4,       // \p{N}
  kPunctuationClass = 8,  // \p{P}
  kSymbolClass = 16,      // \p{S}
  kSpaceClass = 32,       // \s
  kNumericClass = 64,     // what the pre-tokenizer Digits splits at (Rust's char::is_numeric)
  kWordClass = 128,       // \w, as an added token's single_word means it
};

// Generated: (first code point of a run << 8) | class bits of the run, ascending.
extern const uint32_t kUnicodeClassRuns[];
extern const int kNumUnicodeClassRuns;

class UnicodeClasses {
 public:
  static const UnicodeClasses& Get();

  // The class bits of a code point below 0x110000.
  uint8_t operator[](uint32_t code_point) const {
    return blocks_[block_of_[code_point >> 8] << 8 | (code_point & 0xFF)];
  }

 private:
  UnicodeClasses();

  uint16_t block_of_[0x1100];    // which block holds the 256 code points with this prefix
  std::vector<uint8_t> blocks_;  // distinct blocks of 256; the first one is ASCII and Latin-1
};

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKENIZERS_UNICODE_CLASSES_H_
