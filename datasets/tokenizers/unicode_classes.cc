#include "lathe/datasets/tokenizers/unicode_classes.h"

#include <array>
#include <map>

namespace lathe {

UnicodeClasses::UnicodeClasses() {
  std::map<std::array<uint8_t, 256>, uint16_t> known;
  int run = 0;
  for (uint32_t prefix = 0; prefix < 0x1100; ++prefix) {
    std::array<uint8_t, 256> block;
    for (uint32_t low = 0; low < 256; ++low) {
      const uint32_t code_point = prefix << 8 | low;
      while (run + 1 < kNumUnicodeClassRuns && kUnicodeClassRuns[run + 1] >> 8 <= code_point) ++run;
      block[low] = static_cast<uint8_t>(kUnicodeClassRuns[run] & 0xFF);
    }
    const auto [it, is_new] = known.emplace(block, static_cast<uint16_t>(known.size()));
    if (is_new) blocks_.insert(blocks_.end(), block.begin(), block.end());
    block_of_[prefix] = it->second;
  }
}

const UnicodeClasses& UnicodeClasses::Get() {
  static const UnicodeClasses* classes = new UnicodeClasses();
  return *classes;
}

}  // namespace lathe
