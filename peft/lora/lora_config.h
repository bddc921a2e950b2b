// LoraConfig: what a LoRA adapter is and which modules have it, PEFT's adapter_config.json.
//
//   ABSL_ASSIGN_OR_RETURN(const LoraConfig config, ReadLoraConfig("adapter/adapter_config.json"));
//   config.r, config.targets.target_modules ...
//
// Pure functions of their arguments and the file read.
//
// Source: peft 0.21.2, tuners/lora/config.py.
#ifndef LATHE_PEFT_LORA_LORA_CONFIG_H_
#define LATHE_PEFT_LORA_LORA_CONFIG_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lathe/peft/module_matching.h"
#include "nlohmann/json.hpp"

namespace lathe {

enum class LoraBias { kNone, kLoraOnly, kAll };

// How A starts; B starts at 0.
enum class LoraInit {
  kKaiming,   // uniform between -1/sqrt(in) and 1/sqrt(in)
  kGaussian,  // normal with standard deviation 1/r
};

struct LoraConfig {
  int64_t r = 8;
  double alpha = 8;
  double dropout = 0;
  TargetRules targets;
  // Every linear layer but the head, whatever targets.target_modules says.
  bool all_linear = false;
  LoraBias bias = LoraBias::kNone;
  bool use_rslora = false;
  LoraInit init = LoraInit::kKaiming;
  // r and alpha of single modules, by the ends of their names, in order.
  std::vector<std::pair<std::string, int64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
  std::string base_model_name_or_path;  // of the file; "" if it says none
  // What the file says besides, which is written back.
  nlohmann::json others = nlohmann::json::object();
};

// Of a file. Errors: NotFound; InvalidArgument with file and key for what is not JSON, of a wrong
// type or out of bounds; Unimplemented for another kind of adapter and for a key that changes the
// mathematics in a way that is not here.
absl::StatusOr<LoraConfig> ReadLoraConfig(const std::string& path);

// The same from memory; `source`: what messages call the text.
absl::StatusOr<LoraConfig> ParseLoraConfig(std::string_view text, const std::string& source);

// The text of an adapter_config.json as peft writes it: sorted keys, indented by two.
// `base_model`: path or name of the model that is adapted.
std::string WriteLoraConfig(const LoraConfig& config, const std::string& base_model);

// Fills in target_modules where they are not given: the architecture's usual ones. Errors:
// InvalidArgument for an architecture (config.json's model_type) that has none.
absl::Status ResolveTargets(std::string_view model_type, LoraConfig* config);

}  // namespace lathe

#endif  // LATHE_PEFT_LORA_LORA_CONFIG_H_
