// Hand-written scanners for the split patterns that well-known tokenizers use.
//
// They cut exactly as the regular expression does, several times faster than a regular expression
// engine; pattern_scanner_test.cc compares the two on random text. Which models use which pattern:
//   - GPT-2's (also GPT-NeoX, StarCoder and SmolLM2 after Digits): ByteLevel's own, use_regex true
//   - the cl100k family: GPT-4, Qwen2 to Qwen3 (digits one by one), Llama-3 (digits by three)
//   - the same with marks as letters: Qwen3.5
//   - DeepSeek-V2 to V3's three in a row: numbers by three, runs of Chinese and Japanese, the rest
//
// Example:
//   std::unique_ptr<Splitter> splitter = MakePatternScanner(regex);
//   if (splitter == nullptr) ...  // not one of the known ones: use RegexSplitter
#ifndef LATHE_DATASETS_TOKENIZERS_PATTERN_SCANNER_H_
#define LATHE_DATASETS_TOKENIZERS_PATTERN_SCANNER_H_

#include <memory>
#include <string_view>

#include "lathe/datasets/tokenizers/splitter.h"

namespace lathe {

// GPT-2's pattern, which ByteLevel applies when use_regex is true.
extern const char kGpt2Pattern[];

// A scanner that cuts as Split(regex, behavior Isolated) does, or nullptr when `regex` is not,
// character for character, one of the known ones.
std::unique_ptr<Splitter> MakePatternScanner(std::string_view regex);

// The pre-tokenizer Digits: each digit alone when `individual_digits`, else each run of digits.
std::unique_ptr<Splitter> MakeDigitsSplitter(bool individual_digits);

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKENIZERS_PATTERN_SCANNER_H_
