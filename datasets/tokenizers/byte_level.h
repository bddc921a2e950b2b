// GPT-2's byte alphabet: every byte has a visible character, so that any text can be spelled in a
// JSON vocabulary (a space is "Ġ", a newline "Ċ"). Text itself is never mapped: tokens are mapped
// back to bytes instead.
//
// Pure functions; any thread.
#ifndef LATHE_DATASETS_TOKENIZERS_BYTE_LEVEL_H_
#define LATHE_DATASETS_TOKENIZERS_BYTE_LEVEL_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace lathe {

// The character that stands for `byte`, in UTF-8.
std::string ByteLevelCharacter(uint8_t byte);

// Appends the bytes that `token` (valid UTF-8) spells to `bytes` and returns true. If a character
// of it is not in the alphabet, returns false and appends nothing.
bool AppendByteLevelBytes(std::string_view token, std::string* bytes);

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKENIZERS_BYTE_LEVEL_H_
