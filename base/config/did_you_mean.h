#ifndef LATHE_BASE_CONFIG_DID_YOU_MEAN_H_
#define LATHE_BASE_CONFIG_DID_YOU_MEAN_H_

// Suggestions for a mistyped name.
//
//   DidYouMean("learning_rat", {"learning_rate", "seed"});    // " (did you mean learning_rate?)"
//   DidYouMean("batch_size", names);      // " (did you mean per_device_eval_batch_size or ...?)"
//
// Pure functions: call from any thread.

#include <string>
#include <string_view>
#include <vector>

namespace lathe {

// The number of insertions, deletions, substitutions and swaps of neighbours (none of them touching
// a place twice) that turn one word into the other.
int EditDistance(std::string_view a, std::string_view b);

// Up to three of `names` that `word` may have meant, best first: close in spelling (about one error
// in three letters), or containing `word`. Empty when nothing is near.
std::vector<std::string> NearestNames(std::string_view word, const std::vector<std::string>& names);

// " (did you mean --a or --b?)", or "" when nothing is near. `prefix` is put before each name.
std::string DidYouMean(std::string_view word, const std::vector<std::string>& names,
                       std::string_view prefix = "");

}  // namespace lathe

#endif  // LATHE_BASE_CONFIG_DID_YOU_MEAN_H_
