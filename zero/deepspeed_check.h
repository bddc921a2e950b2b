// The check of a DeepSpeed configuration along the table of its keys: every key known, of its type
// and in its range, and nothing that is refused.
//
//   DeepSpeedCheck check("ds.json");
//   ABSL_RETURN_IF_ERROR(check.Check(root));
//   check.Find("zero_optimization.stage");      // a value within root, or nullptr
//
// Thread rule: one thread at a time.
#ifndef LATHE_ZERO_DEEPSPEED_CHECK_H_
#define LATHE_ZERO_DEEPSPEED_CHECK_H_

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "lathe/zero/deepspeed_keys.h"
#include "nlohmann/json.hpp"

namespace lathe {

class DeepSpeedCheck {
 public:
  // `source` is what messages call the file.
  explicit DeepSpeedCheck(std::string_view source) : source_(source) {}

  // `root` is an object, and outlives the check. Errors: InvalidArgument with all problems in one
  // line.
  absl::Status Check(const nlohmann::ordered_json& root);

  // The value of an honoured key by its path in the table, "auto" or of the key's type; nullptr
  // when it is absent or null.
  const nlohmann::ordered_json* Find(std::string_view path) const;

  // What is ignored and asks for something, a line each.
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  void CheckBlock(const nlohmann::ordered_json& block, const std::string& path);
  void CheckKey(const DeepSpeedKey& key, const nlohmann::ordered_json& value,
                const std::string& path);
  void CheckSwitch(const DeepSpeedKey& key, const nlohmann::ordered_json& value,
                   const std::string& path);
  void Tell(const DeepSpeedKey& key, std::string_view path, std::string_view value);
  // False when another spelling of the key has given it already.
  bool Keep(const DeepSpeedKey& key, const nlohmann::ordered_json& value, const std::string& path);

  const std::string source_;
  std::map<std::string, const nlohmann::ordered_json*, std::less<>> values_;  // by the table's path
  std::vector<std::string> unknown_;
  std::vector<std::string> problems_;
  std::vector<std::string> notes_;
};

// A value for a message, cut where it is long.
std::string ShownJson(const nlohmann::ordered_json& value);

bool IsAutoJson(const nlohmann::ordered_json& value);

}  // namespace lathe

#endif  // LATHE_ZERO_DEEPSPEED_CHECK_H_
