#include "lathe/peft/lora/lora_config.h"

#include <array>
#include <cmath>
#include <limits>
#include <set>

#include "absl/status/status_macros.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "lathe/base/python_json.h"
#include "lathe/base/read_file.h"
#include "lathe/base/strict_json.h"

namespace lathe {
namespace {

using Json = nlohmann::json;

// Keys that change what an adapter computes in ways that are not here.
constexpr auto kAbsent = std::to_array<const char*>(
    {"use_dora", "fan_in_fan_out", "lora_bias", "layer_replication", "target_parameters",
     "trainable_token_indices", "alora_invocation_tokens", "arrow_config", "corda_config",
     "eva_config", "kasa_config", "loftq_config", "lora_ga_config", "megatron_config",
     "monteclora_config", "use_bdlora", "use_qalora", "velora_config", "ensure_weight_tying"});

bool AsksForNothing(const Json& value) {
  return value.is_null() || value == false || (value.is_structured() && value.empty());
}

// Takes keys out of the object one by one; what is left is others'.
class Reader {
 public:
  Reader(Json object, std::string source)
      : object_(std::move(object)), source_(std::move(source)) {}

  absl::Status Wrong(const char* key, const char* expected, const Json& found) const {
    std::string text = found.dump(-1, ' ', false, Json::error_handler_t::replace);
    constexpr size_t kMost = 60;
    if (text.size() > kMost) text = text.substr(0, kMost) + "...";
    return absl::InvalidArgumentError(
        absl::StrCat(source_, ": ", key, " is ", text, ", expected ", expected));
  }

  absl::StatusOr<double> Number(const char* key, double otherwise) {
    const Json value = Take(key);
    if (value.is_null()) return otherwise;
    if (!value.is_number() || !std::isfinite(value.get<double>())) {
      return Wrong(key, "a number", value);
    }
    return value.get<double>();
  }

  absl::StatusOr<int64_t> Rank(const char* key, int64_t otherwise) {
    const Json value = Take(key);
    if (value.is_null()) return otherwise;
    return RankOf(key, value);
  }

  absl::StatusOr<int64_t> RankOf(const char* key, const Json& value) const {
    constexpr int64_t kMost = 1 << 20;
    if (!value.is_number_integer() || value < 1 || value > kMost) {
      return Wrong(key, "a rank of 1 or more", value);
    }
    return value.get<int64_t>();
  }

  absl::StatusOr<bool> Bool(const char* key) {
    const Json value = Take(key);
    if (value.is_null()) return false;
    if (!value.is_boolean()) return Wrong(key, "true or false", value);
    return value.get<bool>();
  }

  absl::StatusOr<std::vector<std::string>> Strings(const char* key, bool single_ok) {
    const Json value = Take(key);
    std::vector<std::string> strings;
    if (value.is_null()) return strings;
    if (single_ok && value.is_string()) return std::vector<std::string>{value.get<std::string>()};
    if (!value.is_array()) return Wrong(key, "a list of names", value);
    for (const Json& element : value) {
      if (!element.is_string()) return Wrong(key, "a list of names", value);
      strings.push_back(element.get<std::string>());
    }
    return strings;
  }

  absl::StatusOr<ModuleNames> Names(const char* key) {
    ModuleNames names;
    const auto found = object_.find(key);
    if (found != object_.end() && found->is_string()) {
      names.pattern = found->get<std::string>();
      object_.erase(found);
      return names;
    }
    ABSL_ASSIGN_OR_RETURN(names.names, Strings(key, /*single_ok=*/false));
    return names;
  }

  absl::StatusOr<std::vector<int>> Layers(const char* key) {
    Json value = Take(key);
    std::vector<int> layers;
    if (value.is_null()) return layers;
    if (value.is_number_integer()) value = Json::array({value});
    if (!value.is_array()) return Wrong(key, "numbers of layers", value);
    for (const Json& element : value) {
      if (!element.is_number_integer() || element < 0 ||
          element > std::numeric_limits<int>::max()) {
        return Wrong(key, "numbers of layers", value);
      }
      layers.push_back(element.get<int>());
    }
    return layers;
  }

  absl::StatusOr<Json> Object(const char* key) {
    Json value = Take(key);
    if (value.is_null()) return Json::object();
    if (!value.is_object()) return Wrong(key, "an object of names and numbers", value);
    return value;
  }

  Json Take(const char* key) {
    const auto found = object_.find(key);
    if (found == object_.end()) return nullptr;
    Json value = std::move(*found);
    object_.erase(found);
    return value;
  }

  const Json& rest() const { return object_; }

 private:
  Json object_;
  const std::string source_;
};

absl::StatusOr<LoraBias> ReadBias(Reader& reader) {
  const Json value = reader.Take("bias");
  if (value.is_null() || value == "none") return LoraBias::kNone;
  if (value == "lora_only") return LoraBias::kLoraOnly;
  if (value == "all") return LoraBias::kAll;
  return reader.Wrong("bias", "none, lora_only or all", value);
}

absl::StatusOr<LoraInit> ReadInit(Reader& reader, const std::string& source) {
  const Json value = reader.Take("init_lora_weights");
  if (value.is_null() || value == true) return LoraInit::kKaiming;
  if (value == "gaussian") return LoraInit::kGaussian;
  return absl::UnimplementedError(
      absl::StrCat(source, ": init_lora_weights ",
                   value.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 40),
                   " is not implemented; use true or \"gaussian\""));
}

absl::Status ReadTargets(Reader& reader, LoraConfig* config) {
  TargetRules& targets = config->targets;
  ABSL_ASSIGN_OR_RETURN(targets.target_modules, reader.Names("target_modules"));
  ABSL_ASSIGN_OR_RETURN(targets.exclude_modules, reader.Names("exclude_modules"));
  ABSL_ASSIGN_OR_RETURN(targets.modules_to_save, reader.Strings("modules_to_save", false));
  ABSL_ASSIGN_OR_RETURN(targets.layers_to_transform, reader.Layers("layers_to_transform"));
  ABSL_ASSIGN_OR_RETURN(targets.layers_pattern, reader.Strings("layers_pattern", true));
  const std::optional<std::string>& pattern = targets.target_modules.pattern;
  if (pattern && absl::AsciiStrToLower(*pattern) == "all-linear") config->all_linear = true;
  return absl::OkStatus();
}

absl::Status ReadPatterns(Reader& reader, LoraConfig* config) {
  ABSL_ASSIGN_OR_RETURN(const Json ranks, reader.Object("rank_pattern"));
  for (const auto& [key, value] : ranks.items()) {
    ABSL_ASSIGN_OR_RETURN(const int64_t rank, reader.RankOf("rank_pattern", value));
    config->rank_pattern.emplace_back(key, rank);
  }
  ABSL_ASSIGN_OR_RETURN(const Json alphas, reader.Object("alpha_pattern"));
  for (const auto& [key, value] : alphas.items()) {
    if (!value.is_number()) return reader.Wrong("alpha_pattern", "numbers", value);
    config->alpha_pattern.emplace_back(key, value.get<double>());
  }
  return absl::OkStatus();
}

Json Names(const ModuleNames& names) {
  if (names.pattern) return *names.pattern;
  if (names.names.empty()) return nullptr;
  return names.names;
}

template <typename T>
Json ListOrNull(const std::vector<T>& list) {
  return list.empty() ? Json(nullptr) : Json(list);
}

Json Scale(double value) {
  // peft writes the integer that its users give.
  return value == std::floor(value) ? Json(static_cast<int64_t>(value)) : Json(value);
}

}  // namespace

absl::StatusOr<LoraConfig> ParseLoraConfig(std::string_view text, const std::string& source) {
  ABSL_ASSIGN_OR_RETURN(const nlohmann::ordered_json parsed, ParseStrictJson(text, source));
  if (!parsed.is_object()) return absl::InvalidArgumentError(absl::StrCat(source, " is no object"));
  // Patterns are looked through in the file's order, which a sorted object would lose; peft's are
  // sorted when it writes them.
  Reader reader(Json(parsed), source);
  const Json type = reader.Take("peft_type");
  if (type != "LORA") {
    const std::string found = type.dump(-1, ' ', false, Json::error_handler_t::replace);
    return absl::UnimplementedError(
        absl::StrCat(source, ": peft_type ", found, " is not implemented; expected \"LORA\""));
  }
  for (const char* key : kAbsent) {
    const Json value = reader.Take(key);
    if (AsksForNothing(value)) continue;
    return absl::UnimplementedError(
        absl::StrCat(source, ": ", key, " is not implemented; expected null or false"));
  }
  LoraConfig config;
  ABSL_RETURN_IF_ERROR(ReadTargets(reader, &config));
  ABSL_ASSIGN_OR_RETURN(config.r, reader.Rank("r", config.r));
  ABSL_ASSIGN_OR_RETURN(config.alpha, reader.Number("lora_alpha", config.alpha));
  ABSL_ASSIGN_OR_RETURN(config.dropout, reader.Number("lora_dropout", config.dropout));
  if (config.dropout < 0 || config.dropout >= 1) {
    return reader.Wrong("lora_dropout", "0 or more and below 1", config.dropout);
  }
  ABSL_ASSIGN_OR_RETURN(config.bias, ReadBias(reader));
  ABSL_ASSIGN_OR_RETURN(config.use_rslora, reader.Bool("use_rslora"));
  ABSL_ASSIGN_OR_RETURN(config.init, ReadInit(reader, source));
  ABSL_RETURN_IF_ERROR(ReadPatterns(reader, &config));
  const Json base = reader.Take("base_model_name_or_path");
  if (base.is_string()) config.base_model_name_or_path = base.get<std::string>();
  config.others = reader.rest();
  return config;
}

absl::StatusOr<LoraConfig> ReadLoraConfig(const std::string& path) {
  ABSL_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  return ParseLoraConfig(text, path);
}

std::string WriteLoraConfig(const LoraConfig& config, const std::string& base_model) {
  // The version of peft whose file this is.
  Json json = {{"auto_mapping", nullptr},  {"megatron_core", "megatron.core"},
               {"peft_version", "0.21.2"}, {"qalora_group_size", 16},
               {"revision", nullptr},      {"task_type", "CAUSAL_LM"}};
  json.update(config.others);
  for (const char* key : kAbsent) json[key] = nullptr;
  for (const char* key :
       {"use_dora", "fan_in_fan_out", "lora_bias", "use_qalora", "ensure_weight_tying"}) {
    json[key] = false;
  }
  json["loftq_config"] = Json::object();
  json["base_model_name_or_path"] = base_model;
  json["peft_type"] = "LORA";
  json["inference_mode"] = true;
  json["r"] = config.r;
  json["lora_alpha"] = Scale(config.alpha);
  json["lora_dropout"] = config.dropout;
  json["target_modules"] = Names(config.targets.target_modules);
  json["exclude_modules"] = Names(config.targets.exclude_modules);
  json["modules_to_save"] = ListOrNull(config.targets.modules_to_save);
  json["layers_to_transform"] = ListOrNull(config.targets.layers_to_transform);
  json["layers_pattern"] = ListOrNull(config.targets.layers_pattern);
  json["bias"] = config.bias == LoraBias::kAll        ? "all"
                 : config.bias == LoraBias::kLoraOnly ? "lora_only"
                                                      : "none";
  json["use_rslora"] = config.use_rslora;
  json["init_lora_weights"] = config.init == LoraInit::kGaussian ? Json("gaussian") : Json(true);
  json["rank_pattern"] = Json::object();
  for (const auto& [key, rank] : config.rank_pattern) json["rank_pattern"][key] = rank;
  json["alpha_pattern"] = Json::object();
  for (const auto& [key, alpha] : config.alpha_pattern) json["alpha_pattern"][key] = Scale(alpha);
  return DumpPythonJson(json, 2);
}

absl::Status ResolveTargets(std::string_view model_type, LoraConfig* config) {
  if (!config->targets.target_modules.empty()) return absl::OkStatus();
  static const auto* const kUsual = new std::set<std::string_view>{"llama", "qwen2"};
  if (!kUsual->contains(model_type)) {
    return absl::InvalidArgumentError(absl::StrCat("--target_modules is missing: a model of type ",
                                                   model_type, " has no usual ones"));
  }
  config->targets.target_modules.names = {"q_proj", "v_proj"};
  return absl::OkStatus();
}

}  // namespace lathe
