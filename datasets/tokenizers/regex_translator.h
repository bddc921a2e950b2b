// Translates the regular expressions of tokenizer.json, which Hugging Face runs with Oniguruma, for
// PCRE2.
//
// The two read most patterns alike. \s and \S, and characters of Unicode 15 and 16, are spelled out
// for PCRE2 10.42; what the two would read differently, or only one knows, is refused.
//
// Example:
//   ABSL_ASSIGN_OR_RETURN(std::string pattern, TranslateRegex(R"(\s+(?!\S)|\p{L}+)"));
#ifndef LATHE_DATASETS_TOKENIZERS_REGEX_TRANSLATOR_H_
#define LATHE_DATASETS_TOKENIZERS_REGEX_TRANSLATOR_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace lathe {

// The pattern to compile with PCRE2_UTF, PCRE2_UCP and PCRE2_MULTILINE.
// Errors: InvalidArgument naming the construct that is not supported and its byte.
absl::StatusOr<std::string> TranslateRegex(std::string_view pattern);

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKENIZERS_REGEX_TRANSLATOR_H_
