// The pre-tokenizer Split with any pattern, run by PCRE2's just-in-time compiler.
//
// Hugging Face runs these patterns with Oniguruma. A construct that means something else in PCRE2,
// or does not exist there, is refused when the tokenizer is loaded rather than cut differently.
//
// Example:
//   auto splitter = MakeRegexSplitter(R"(\p{N}{1,3})", SplitBehavior::kIsolated, false);
#ifndef LATHE_DATASETS_TOKENIZERS_REGEX_SPLITTER_H_
#define LATHE_DATASETS_TOKENIZERS_REGEX_SPLITTER_H_

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "lathe/datasets/tokenizers/splitter.h"

namespace lathe {

// What becomes of a match, in the words of tokenizer.json.
enum class SplitBehavior {
  kRemoved,             // it is dropped
  kIsolated,            // it is a piece of its own
  kMergedWithPrevious,  // it ends the piece before it
  kMergedWithNext,      // it begins the piece after it
  kContiguous,          // matches in a row are one piece
};

// A splitter at the matches of `pattern`, or at what lies between them when `invert`.
// Errors: InvalidArgument for a pattern that does not compile or that the two engines read
// differently; the message names the construct.
absl::StatusOr<std::unique_ptr<Splitter>> MakeRegexSplitter(std::string_view pattern,
                                                            SplitBehavior behavior, bool invert);

// The same at each occurrence of the text `literal`.
absl::StatusOr<std::unique_ptr<Splitter>> MakeLiteralSplitter(std::string_view literal,
                                                              SplitBehavior behavior, bool invert);

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKENIZERS_REGEX_SPLITTER_H_
