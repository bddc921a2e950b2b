#include "lathe/datasets/tokenizers/special_tokens.h"

#include <map>

#include "absl/status/status_macros.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "lathe/datasets/tokenizers/bounded_json.h"
#include "lathe/datasets/tokenizers/json_fields.h"

namespace lathe {
namespace {

// In transformers' order, which is the order of new ids.
constexpr const char* kNames[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                  "pad_token", "cls_token", "mask_token"};

absl::StatusOr<nlohmann::json> ReadIfThere(const std::string& path) {
  absl::StatusOr<nlohmann::json> json = ReadBoundedJson(path);
  if (absl::IsNotFound(json.status())) return nlohmann::json::object();
  if (json.ok() && !json->is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is ", Abbreviate(*json), "; expected an object"));
  }
  return json;
}

// A token given by its content alone is special.
absl::StatusOr<AddedToken> ParseNamedToken(const nlohmann::json& token, const std::string& path) {
  if (token.is_string()) return AddedToken{.content = token.get<std::string>(), .special = true};
  return ParseAddedToken(token, path);
}

absl::Status ParseDecoder(const nlohmann::json& config, SpecialTokens* result) {
  ABSL_ASSIGN_OR_RETURN(const nlohmann::json* decoder,
                        ObjectField(config, "", "added_tokens_decoder"));
  std::map<int64_t, AddedToken> by_id;
  for (const auto& [key, token] : decoder->items()) {
    const std::string path = absl::StrCat("added_tokens_decoder[", Abbreviate(key), "]");
    int64_t id = 0;
    if (!absl::SimpleAtoi(key, &id)) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": the key must be an id"));
    }
    ABSL_ASSIGN_OR_RETURN(by_id[id], ParseAddedToken(token, path));
  }
  for (const auto& [id, token] : by_id) result->added_tokens_decoder.push_back(token);
  return absl::OkStatus();
}

absl::Status ParseNames(const nlohmann::json& config, SpecialTokens* result) {
  const std::map<std::string, std::string*> kept = {{"bos_token", &result->bos_token},
                                                    {"eos_token", &result->eos_token},
                                                    {"pad_token", &result->pad_token},
                                                    {"unk_token", &result->unk_token}};
  const auto add = [&](const nlohmann::json& token, const std::string& path, bool must_be_special) {
    absl::StatusOr<AddedToken> parsed = ParseNamedToken(token, path);
    if (!parsed.ok()) return parsed.status();
    parsed->special = parsed->special || must_be_special;
    if (const auto it = kept.find(path); it != kept.end()) *it->second = parsed->content;
    result->named.push_back(*std::move(parsed));
    return absl::OkStatus();
  };
  for (const char* name : kNames) {
    if (!HasField(config, name)) continue;
    ABSL_RETURN_IF_ERROR(add(config[name], name, true));
  }
  // Tokens that only one model names, such as image_token.
  for (const auto& [key, token] : config.items()) {
    if (absl::EndsWith(key, "_token") && token.is_string() &&
        std::find(std::begin(kNames), std::end(kNames), key) == std::end(kNames)) {
      ABSL_RETURN_IF_ERROR(add(token, key, true));
    }
  }
  const char* extra = HasField(config, "extra_special_tokens") ? "extra_special_tokens"
                                                               : "additional_special_tokens";
  if (!HasField(config, extra)) return absl::OkStatus();
  const nlohmann::json& tokens = config[extra];
  if (!tokens.is_array() && !tokens.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(extra, " is ", Abbreviate(tokens), "; expected a list of tokens"));
  }
  for (const auto& [key, token] : tokens.items()) {
    ABSL_RETURN_IF_ERROR(add(token, absl::StrCat(extra, "[", key, "]"), tokens.is_object()));
  }
  return absl::OkStatus();
}

absl::Status ParseMaxLength(const nlohmann::json& config, SpecialTokens* result) {
  if (!HasField(config, "model_max_length")) return absl::OkStatus();
  const nlohmann::json& value = config["model_max_length"];
  if (!value.is_number()) {
    return absl::InvalidArgumentError(
        absl::StrCat("model_max_length is ", Abbreviate(value), "; expected a number"));
  }
  // transformers writes int(1e30) for "no limit".
  if (value.get<double>() < 1e18) result->model_max_length = value.get<int64_t>();
  return absl::OkStatus();
}

// As transformers 5 chooses: a model of type qwen2 always has Qwen2Tokenizer, otherwise
// tokenizer_class counts.
absl::StatusOr<bool> IsQwen2(const nlohmann::json& tokenizer_config, const std::string& directory) {
  ABSL_ASSIGN_OR_RETURN(const nlohmann::json model_config, ReadIfThere(directory + "/config.json"));
  if (FieldOrNull(model_config, "model_type") == "qwen2") return true;
  const nlohmann::json& name = FieldOrNull(tokenizer_config, "tokenizer_class");
  return name == "Qwen2Tokenizer" || name == "Qwen2TokenizerFast";
}

// What transformers' class names when the files do not.
void AddQwen2Names(nlohmann::json* config) {
  for (const char* name : {"unk_token", "eos_token", "pad_token"}) {
    if (!config->contains(name)) (*config)[name] = "<|endoftext|>";
  }
}

absl::Status WithFile(const std::string& path, const absl::Status& status) {
  return status.ok() ? status
                     : absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

}  // namespace

absl::StatusOr<AddedToken> ParseAddedToken(const nlohmann::json& token, const std::string& path) {
  AddedToken result;
  ABSL_ASSIGN_OR_RETURN(result.content, StringField(token, path, "content"));
  ABSL_ASSIGN_OR_RETURN(result.single_word, BoolField(token, path, "single_word", false));
  ABSL_ASSIGN_OR_RETURN(result.lstrip, BoolField(token, path, "lstrip", false));
  ABSL_ASSIGN_OR_RETURN(result.rstrip, BoolField(token, path, "rstrip", false));
  ABSL_ASSIGN_OR_RETURN(result.special, BoolField(token, path, "special", false));
  ABSL_ASSIGN_OR_RETURN(result.normalized, BoolField(token, path, "normalized", !result.special));
  return result;
}

absl::StatusOr<SpecialTokens> ReadSpecialTokens(const std::string& directory) {
  SpecialTokens result;
  const std::string config_path = directory + "/tokenizer_config.json";
  const std::string map_path = directory + "/special_tokens_map.json";
  ABSL_ASSIGN_OR_RETURN(nlohmann::json config, ReadIfThere(config_path));
  if (HasField(config, "added_tokens_decoder")) {
    ABSL_RETURN_IF_ERROR(WithFile(config_path, ParseDecoder(config, &result)));
  } else {
    // Older directories: the map's values come before the configuration's.
    ABSL_ASSIGN_OR_RETURN(const nlohmann::json map, ReadIfThere(map_path));
    SpecialTokens unused;
    ABSL_RETURN_IF_ERROR(WithFile(map_path, ParseNames(map, &unused)));
    config.update(map);
  }
  ABSL_ASSIGN_OR_RETURN(result.is_qwen2, IsQwen2(config, directory));
  if (result.is_qwen2) AddQwen2Names(&config);
  ABSL_RETURN_IF_ERROR(WithFile(config_path, ParseNames(config, &result)));
  absl::StatusOr<bool> prefix = BoolField(config, "", "add_prefix_space", false);
  ABSL_RETURN_IF_ERROR(WithFile(config_path, prefix.status()));
  result.add_prefix_space = *prefix;
  ABSL_RETURN_IF_ERROR(WithFile(config_path, ParseMaxLength(config, &result)));
  return result;
}

}  // namespace lathe
