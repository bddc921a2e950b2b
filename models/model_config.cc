#include "lathe/models/model_config.h"

#include <cmath>
#include <filesystem>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/base/read_file.h"
#include "lathe/base/strict_json.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

// Far above any real model and far below where products of two sizes overflow.
constexpr int64_t kMaxSize = int64_t{1} << 28;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxFileBytes = 16 << 20;

// Reads fields of one JSON object and says, in errors, which file and field.
class Fields {
 public:
  Fields(const Json& object, std::string file, std::string prefix = "")
      : object_(object), file_(std::move(file)), prefix_(std::move(prefix)) {}

  bool Has(const char* name) const { return object_.contains(name) && !object_[name].is_null(); }

  absl::Status Error(const char* name, const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(file_, ": field '", prefix_, name, "' ", what));
  }

  std::string Found(const char* name) const {
    std::string text = object_[name].dump(-1, ' ', false, Json::error_handler_t::replace);
    return text.size() > 60 ? text.substr(0, 57) + "..." : text;
  }

  // Leaves *value alone if the field is absent.
  absl::Status Size(const char* name, int64_t min, int64_t max, int64_t* value) const {
    if (!Has(name)) return absl::OkStatus();
    const Json& field = object_[name];
    if (!field.is_number_integer() ||
        (field.is_number_unsigned() &&
         field.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) ||
        field.get<int64_t>() < min || field.get<int64_t>() > max) {
      return Error(
          name, absl::StrCat("is ", Found(name), "; expected an integer from ", min, " to ", max));
    }
    *value = field.get<int64_t>();
    return absl::OkStatus();
  }

  absl::Status Required(const char* name, int64_t max, int64_t* value) const {
    if (!Has(name)) return Error(name, "is missing; it is needed to build the model");
    return Size(name, 1, max, value);
  }

  absl::Status Number(const char* name, double min, double max, double* value) const {
    if (!Has(name)) return absl::OkStatus();
    const Json& field = object_[name];
    if (!field.is_number() || !(field.get<double>() >= min && field.get<double>() <= max)) {
      return Error(name,
                   absl::StrCat("is ", Found(name), "; expected a number from ", min, " to ", max));
    }
    *value = field.get<double>();
    return absl::OkStatus();
  }

  absl::Status Bool(const char* name, bool* value) const {
    if (!Has(name)) return absl::OkStatus();
    if (!object_[name].is_boolean()) {
      return Error(name, absl::StrCat("is ", Found(name), "; expected true or false"));
    }
    *value = object_[name].get<bool>();
    return absl::OkStatus();
  }

  absl::Status Text(const char* name, std::string* value) const {
    if (!Has(name)) return absl::OkStatus();
    if (!object_[name].is_string()) {
      return Error(name, absl::StrCat("is ", Found(name), "; expected a string"));
    }
    *value = object_[name].get<std::string>();
    return absl::OkStatus();
  }

  // Refuses a field whose value differs from the neutral one.
  absl::Status Neutral(const char* name, const Json& neutral, const char* why) const {
    if (!Has(name) || object_[name] == neutral) return absl::OkStatus();
    return Error(
        name, absl::StrCat("is ", Found(name), "; only ", neutral.dump(), " is supported: ", why));
  }

 private:
  const Json& object_;
  std::string file_, prefix_;
};

absl::Status ReadRope(const Json& root, const std::string& file, const ModelConfig& config,
                      RopeParameters* rope) {
  // v4: rope_theta beside rope_scaling; v5: rope_parameters holds both. rope_scaling wins, as in
  // transformers.
  const Fields top(root, file);
  ABSL_RETURN_IF_ERROR(top.Number("rope_theta", 1, 1e12, &rope->theta));
  ABSL_RETURN_IF_ERROR(
      top.Neutral("partial_rotary_factor", 1.0, "rotating a part of each head is not implemented"));
  const char* key = top.Has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  if (!top.Has(key)) return absl::OkStatus();
  const Json& object = root[key];
  if (!object.is_object()) return top.Error(key, "is not an object");
  const Fields fields(object, file, absl::StrCat(key, "."));
  std::string type = "default";
  ABSL_RETURN_IF_ERROR(fields.Text("type", &type));
  ABSL_RETURN_IF_ERROR(fields.Text("rope_type", &type));
  ABSL_RETURN_IF_ERROR(fields.Number("rope_theta", 1, 1e12, &rope->theta));
  ABSL_RETURN_IF_ERROR(fields.Neutral("partial_rotary_factor", 1.0,
                                      "rotating a part of each head is not implemented"));
  if (type == "default") return absl::OkStatus();
  if (type == "linear") {
    rope->type = RopeParameters::Type::kLinear;
  } else if (type == "dynamic") {
    rope->type = RopeParameters::Type::kDynamic;
  } else if (type == "llama3") {
    rope->type = RopeParameters::Type::kLlama3;
  } else if (type == "yarn") {
    rope->type = RopeParameters::Type::kYarn;
  } else {
    return fields.Error(
        fields.Has("rope_type") ? "rope_type" : "type",
        absl::StrCat("is \"", type, "\"; supported are default, linear, dynamic, llama3, yarn"));
  }
  if (!fields.Has("factor"))
    return fields.Error("factor", absl::StrCat("is missing; ", type, " needs it"));
  ABSL_RETURN_IF_ERROR(fields.Number("factor", 1, 1e6, &rope->factor));
  rope->original_max_position_embeddings = config.max_position_embeddings;
  ABSL_RETURN_IF_ERROR(fields.Size("original_max_position_embeddings", 1, kMaxSize,
                                   &rope->original_max_position_embeddings));
  ABSL_RETURN_IF_ERROR(top.Size("original_max_position_embeddings", 1, kMaxSize,
                                &rope->original_max_position_embeddings));
  if (type == "llama3") {
    for (const char* name : {"low_freq_factor", "high_freq_factor"}) {
      if (!fields.Has(name)) return fields.Error(name, "is missing; llama3 needs it");
    }
  }
  ABSL_RETURN_IF_ERROR(fields.Number("low_freq_factor", 1e-6, 1e6, &rope->low_freq_factor));
  ABSL_RETURN_IF_ERROR(fields.Number("high_freq_factor", 1e-6, 1e6, &rope->high_freq_factor));
  if (type == "llama3" && rope->high_freq_factor <= rope->low_freq_factor) {
    return fields.Error("high_freq_factor", "must be greater than low_freq_factor");
  }
  if (fields.Has("attention_factor")) {
    double factor = 0;
    ABSL_RETURN_IF_ERROR(fields.Number("attention_factor", 1e-6, 1e6, &factor));
    rope->attention_factor = factor;
  }
  ABSL_RETURN_IF_ERROR(fields.Number("mscale", 0, 1e6, &rope->mscale));
  ABSL_RETURN_IF_ERROR(fields.Number("mscale_all_dim", 0, 1e6, &rope->mscale_all_dim));
  ABSL_RETURN_IF_ERROR(fields.Number("beta_fast", 1e-6, 1e6, &rope->beta_fast));
  ABSL_RETURN_IF_ERROR(fields.Number("beta_slow", 1e-6, 1e6, &rope->beta_slow));
  return fields.Bool("truncate", &rope->truncate);
}

absl::Status RefuseUnsupported(const Json& root, const std::string& file) {
  const Fields fields(root, file);
  ABSL_RETURN_IF_ERROR(fields.Neutral("hidden_act", "silu",
                                      "other activations are not implemented for this family"));
  ABSL_RETURN_IF_ERROR(
      fields.Neutral("attention_dropout", 0.0, "dropout in attention is not implemented"));
  ABSL_RETURN_IF_ERROR(
      fields.Neutral("use_sliding_window", false, "sliding-window attention is not implemented"));
  ABSL_RETURN_IF_ERROR(
      fields.Neutral("pretraining_tp", 1, "its split products are not implemented"));
  if (fields.Has("quantization_config")) {
    return fields.Error(
        "quantization_config",
        "is set; quantised models cannot be trained: save the model dequantised with transformers");
  }
  if (fields.Has("layer_types")) {
    for (const Json& type : root["layer_types"]) {
      if (type != "full_attention") {
        return fields.Error(
            "layer_types",
            absl::StrCat("has ", type.dump(-1, ' ', false, Json::error_handler_t::replace),
                         "; only \"full_attention\" is supported"));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckHeads(const Fields& fields, const ModelConfig& c) {
  if (c.num_attention_heads % c.num_key_value_heads != 0) {
    return fields.Error(
        "num_key_value_heads",
        absl::StrCat("is ", c.num_key_value_heads, "; it must divide num_attention_heads, ",
                     c.num_attention_heads));
  }
  if (!fields.Has("head_dim") && c.hidden_size % c.num_attention_heads != 0) {
    return fields.Error("num_attention_heads",
                        absl::StrCat("is ", c.num_attention_heads, "; it must divide hidden_size, ",
                                     c.hidden_size, ", unless head_dim is given"));
  }
  if (c.head_dim % 2 != 0) {
    return fields.Error("head_dim",
                        absl::StrCat("is ", c.head_dim, "; rotary embedding needs an even number"));
  }
  // Sizes that no machine holds are a broken file, not a wish: say so before anything is allocated.
  const double parameters = static_cast<double>(c.vocab_size) * c.hidden_size +
                            static_cast<double>(c.num_hidden_layers) * c.hidden_size *
                                (3.0 * c.intermediate_size +
                                 static_cast<double>(c.head_dim) *
                                     (2.0 * c.num_attention_heads + 2.0 * c.num_key_value_heads));
  if (parameters > 1e13) {
    return fields.Error("hidden_size",
                        absl::StrCat("and its fellows describe a model of ", parameters,
                                     " parameters; expected at most 1e13"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(const std::string& text, const std::string& file) {
  ModelConfig c;
  ABSL_ASSIGN_OR_RETURN(c.original, ParseStrictJson(text, file));
  if (!c.original.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": not a JSON object"));
  }
  const Fields fields(c.original, file);
  if (!fields.Has("model_type"))
    return fields.Error("model_type", "is missing; expected \"llama\" or \"qwen2\"");
  ABSL_RETURN_IF_ERROR(fields.Text("model_type", &c.model_type));
  const bool qwen2 = c.model_type == "qwen2";
  if (!qwen2 && c.model_type != "llama") {
    return fields.Error("model_type", absl::StrCat("is ", fields.Found("model_type"),
                                                   "; supported are \"llama\" and \"qwen2\""));
  }
  ABSL_RETURN_IF_ERROR(fields.Required("vocab_size", kMaxSize, &c.vocab_size));
  ABSL_RETURN_IF_ERROR(fields.Required("hidden_size", kMaxSize, &c.hidden_size));
  ABSL_RETURN_IF_ERROR(fields.Required("intermediate_size", kMaxSize, &c.intermediate_size));
  ABSL_RETURN_IF_ERROR(fields.Required("num_hidden_layers", kMaxLayers, &c.num_hidden_layers));
  ABSL_RETURN_IF_ERROR(fields.Required("num_attention_heads", kMaxSize, &c.num_attention_heads));
  c.num_key_value_heads = c.num_attention_heads;
  ABSL_RETURN_IF_ERROR(fields.Size("num_key_value_heads", 1, kMaxSize, &c.num_key_value_heads));
  c.head_dim = std::max<int64_t>(1, c.hidden_size / c.num_attention_heads);
  ABSL_RETURN_IF_ERROR(fields.Size("head_dim", 2, kMaxSize, &c.head_dim));
  c.max_position_embeddings = qwen2 ? 32768 : 2048;  // transformers' defaults
  ABSL_RETURN_IF_ERROR(
      fields.Size("max_position_embeddings", 1, kMaxSize, &c.max_position_embeddings));
  ABSL_RETURN_IF_ERROR(fields.Number("rms_norm_eps", 0, 1, &c.rms_norm_eps));
  ABSL_RETURN_IF_ERROR(fields.Number("initializer_range", 0, 100, &c.initializer_range));
  ABSL_RETURN_IF_ERROR(fields.Bool("tie_word_embeddings", &c.tie_word_embeddings));
  if (qwen2) {
    c.qkv_bias = true;
  } else {
    ABSL_RETURN_IF_ERROR(fields.Bool("attention_bias", &c.qkv_bias));
    c.o_bias = c.qkv_bias;
    ABSL_RETURN_IF_ERROR(fields.Bool("mlp_bias", &c.mlp_bias));
  }
  if (fields.Has("pad_token_id")) {
    int64_t pad = 0;
    ABSL_RETURN_IF_ERROR(fields.Size("pad_token_id", -1, kMaxSize, &pad));
    if (pad >= c.vocab_size) {
      return fields.Error(
          "pad_token_id",
          absl::StrCat("is ", pad, "; it must be below vocab_size, ", c.vocab_size));
    }
    if (pad >= 0) c.pad_token_id = pad;
  }
  ABSL_RETURN_IF_ERROR(fields.Text("torch_dtype", &c.dtype));
  ABSL_RETURN_IF_ERROR(fields.Text("dtype", &c.dtype));
  ABSL_RETURN_IF_ERROR(RefuseUnsupported(c.original, file));
  ABSL_RETURN_IF_ERROR(CheckHeads(fields, c));
  ABSL_RETURN_IF_ERROR(ReadRope(c.original, file, c, &c.rope));
  return c;
}

absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& path) {
  std::error_code ignored;
  std::filesystem::path file = path;
  if (std::filesystem::is_directory(file, ignored)) file /= "config.json";
  absl::StatusOr<std::string> text = ReadFile(file.string(), kMaxFileBytes);
  if (absl::IsNotFound(text.status())) {
    return absl::NotFoundError(absl::StrCat(text.status().message(),
                                            "; expected a model folder with config.json "
                                            "(--config_name, --model_name_or_path)"));
  }
  ABSL_RETURN_IF_ERROR(text.status());
  return ParseModelConfig(*text, file.string());
}

int64_t CountParameters(const ModelConfig& c) {
  const int64_t q = c.num_attention_heads * c.head_dim, kv = c.num_key_value_heads * c.head_dim;
  int64_t layer = c.hidden_size * (2 * q + 2 * kv + 3 * c.intermediate_size) + 2 * c.hidden_size;
  if (c.qkv_bias) layer += q + 2 * kv;
  if (c.o_bias) layer += c.hidden_size;
  if (c.mlp_bias) layer += 2 * c.intermediate_size + c.hidden_size;
  const int64_t table = c.vocab_size * c.hidden_size;
  return c.num_hidden_layers * layer + c.hidden_size + table * (c.tie_word_embeddings ? 1 : 2);
}

LayerFlops FlopsPerToken(const ModelConfig& c, int64_t seq_len) {
  const double q = static_cast<double>(c.num_attention_heads * c.head_dim);
  const double kv = static_cast<double>(c.num_key_value_heads * c.head_dim);
  const double hidden = static_cast<double>(c.hidden_size);
  const double weights = hidden * (2 * q + 2 * kv + 3.0 * c.intermediate_size);
  // q·k and p·v: 2 products of 2 FLOPs per key, three times (forward, two in backward), half the
  // keys on average.
  return {.block = 6 * weights + 6.0 * seq_len * q, .head = 6 * hidden * c.vocab_size};
}

void ResizeVocabulary(int64_t vocab_size, ModelConfig* config) {
  if (config->rows_in_files == 0) config->rows_in_files = config->vocab_size;
  config->vocab_size = vocab_size;
  config->original["vocab_size"] = vocab_size;
}

std::string WriteModelConfig(const ModelConfig& config, const std::string& dtype) {
  Json out = config.original;
  out.erase("torch_dtype");
  out["dtype"] = dtype;
  if (!out.contains("architectures")) {
    out["architectures"] =
        Json::array({config.model_type == "qwen2" ? "Qwen2ForCausalLM" : "LlamaForCausalLM"});
  }
  return out.dump(2) + "\n";
}

}  // namespace lathe
