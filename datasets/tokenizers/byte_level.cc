#include "lathe/datasets/tokenizers/byte_level.h"

#include <array>

#include "lathe/datasets/tokenizers/utf8.h"

namespace lathe {
namespace {

// Bytes that are visible Latin-1 characters stand for themselves; the others get U+0100 and up, in
// order.
struct Alphabet {
  std::array<uint16_t, 256> character;
  std::array<int16_t, 512> byte;  // -1: not in the alphabet

  Alphabet() {
    byte.fill(-1);
    uint16_t next = 256;
    for (int b = 0; b < 256; ++b) {
      const bool visible = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      character[b] = visible ? static_cast<uint16_t>(b) : next++;
      byte[character[b]] = static_cast<int16_t>(b);
    }
  }
};

const Alphabet& GetAlphabet() {
  static const Alphabet* alphabet = new Alphabet();
  return *alphabet;
}

}  // namespace

std::string ByteLevelCharacter(uint8_t byte) {
  std::string out;
  AppendUtf8(GetAlphabet().character[byte], &out);
  return out;
}

bool AppendByteLevelBytes(std::string_view token, std::string* bytes) {
  const Alphabet& alphabet = GetAlphabet();
  const size_t old_size = bytes->size();
  for (size_t i = 0; i < token.size();) {
    const CodePoint c = DecodeUtf8(token.data() + i);
    if (c.value >= alphabet.byte.size() || alphabet.byte[c.value] < 0) {
      bytes->resize(old_size);
      return false;
    }
    bytes->push_back(static_cast<char>(alphabet.byte[c.value]));
    i += c.num_bytes;
  }
  return true;
}

}  // namespace lathe
