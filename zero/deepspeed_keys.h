// Every key of DeepSpeed's configuration, and what becomes of it here.
//
//   const DeepSpeedKey* key = FindDeepSpeedKey("zero_optimization.stage");
//   key->fate;         // kHonoured
//   key->type.max;     // 3
//
// Constant data: use from any thread.
//
// Source: DeepSpeed's docs/_pages/config-json.md and 0.19.8 runtime/config.py, zero/config.py and
// what they include; keys that older versions had and users' files still have.
#ifndef LATHE_ZERO_DEEPSPEED_KEYS_H_
#define LATHE_ZERO_DEEPSPEED_KEYS_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"

namespace lathe {

struct DeepSpeedType {
  enum class Kind {
    kBlock,   // an object whose keys are rows of their own
    kSwitch,  // an object that asks for something only where `enabled` in it is true
    kBool,
    kInteger,  // also 2e8
    kNumber,
    kText,
    kAny,
  };
  Kind kind = Kind::kAny;
  double min = 0, max = 0;  // of kInteger and kNumber
  std::string_view words =
      "";  // of kText: the values, in any case; of kSwitch: the keys; by blanks
};

struct DeepSpeedKey {
  enum class Fate {
    kHonoured,
    kIgnored,  // nothing of the training's result depends on it: said once in the log
    kRefused,
  };
  std::string_view path;
  Fate fate = Fate::kHonoured;
  DeepSpeedType type;
  bool takes_auto = false;
  // Of what is ignored or refused: the values that ask for nothing, as JSON, by blanks. null always
  // does.
  std::string_view neutral = "";
  std::string_view reason = "";
};

absl::Span<const DeepSpeedKey> DeepSpeedKeys();

// The row of a path, nullptr when there is none. Older spellings ("bfloat16.enabled") have the row
// of the newer one.
const DeepSpeedKey* FindDeepSpeedKey(std::string_view path);

// The keys within the block `path` ("" is the top), older spellings included.
std::vector<std::string> DeepSpeedKeysIn(std::string_view path);

// The blocks that have a key of this name: "zero_optimization" for "stage".
std::vector<std::string> DeepSpeedBlocksWith(std::string_view name);

}  // namespace lathe

#endif  // LATHE_ZERO_DEEPSPEED_KEYS_H_
