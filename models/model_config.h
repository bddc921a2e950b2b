// ModelConfig: a model's architecture, read from Hugging Face's config.json (transformers v4 and v5
// spellings).
//
//   absl::StatusOr<ModelConfig> config = ReadModelConfig("models/qwen-1.5b");  // folder or file
//   config->num_key_value_heads;                                   // names as in config.json
//
// Keys that change the mathematics are honoured, or refused by name when set to a value that is not
// the neutral one. All other keys are kept in `original` and written back unchanged. A value;
// thread-safe once read.
#ifndef LATHE_MODELS_MODEL_CONFIG_H_
#define LATHE_MODELS_MODEL_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace lathe {

// Rotary position embedding, transformers' rope_parameters (v5) or rope_theta + rope_scaling (v4).
struct RopeParameters {
  enum class Type { kDefault, kLinear, kDynamic, kLlama3, kYarn };
  Type type = Type::kDefault;
  double theta = 10000;
  double factor = 1;                             // linear, dynamic, llama3, yarn
  int64_t original_max_position_embeddings = 0;  // llama3, yarn
  double low_freq_factor = 1;                    // llama3
  double high_freq_factor = 4;                   // llama3
  std::optional<double> attention_factor;        // yarn; derived from factor if absent
  double mscale = 0, mscale_all_dim = 0;         // yarn; 0: not set
  double beta_fast = 32, beta_slow = 1;          // yarn
  bool truncate = true;                          // yarn
};

struct ModelConfig {
  std::string model_type;  // "llama" or "qwen2"
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;  // apart from hidden_size / num_attention_heads if the file says so
  int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6;
  double initializer_range = 0.02;
  bool tie_word_embeddings = false;
  bool qkv_bias = false;  // llama: attention_bias; qwen2: always
  bool o_bias = false;    // llama: attention_bias
  bool mlp_bias = false;
  std::optional<int64_t>
      pad_token_id;  // its embedding starts at 0 and gets no gradient from lookups
  RopeParameters rope;
  // Rows of the embedding and the head in the model's files, where they are fewer than vocab_size
  // (ResizeVocabulary); 0: all are there.
  int64_t rows_in_files = 0;
  std::string dtype;  // torch_dtype or dtype: "float32", "bfloat16", …; empty if absent

  nlohmann::ordered_json original;  // the file as read
};

// `path`: a config.json or the folder that holds it.
// Errors: NotFound (no such file), InvalidArgument (not JSON; a field that is missing, has the
// wrong type or an absurd value; a setting that is not supported), each naming file and field.
absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& path);

// The same from text; `file` is the name for errors.
absl::StatusOr<ModelConfig> ParseModelConfig(const std::string& text, const std::string& file);

// Makes room for tokens that the model's files have no rows for: LoadPretrained starts theirs as
// the mean of the others. `vocab_size` must be above config->vocab_size. Source: transformers 5.17
// modeling_utils.py, resize_token_embeddings with mean_resizing, which draws them around that mean
// with a billionth of the rows' covariance.
void ResizeVocabulary(int64_t vocab_size, ModelConfig* config);

// Weights of the whole model, a tied head counted once.
int64_t CountParameters(const ModelConfig& config);

// Matrix-product FLOPs of one token's forward and backward at this sequence length: 6 per weight in
// a product, causal attention by half.
struct LayerFlops {
  double block = 0;
  double head = 0;  // the embedding is a look-up
};
LayerFlops FlopsPerToken(const ModelConfig& config, int64_t seq_len);

// config.json for a model that was trained with `dtype` ("float32", "bfloat16"): the original with
// dtype set and the architecture named. Ends with a newline.
std::string WriteModelConfig(const ModelConfig& config, const std::string& dtype);

}  // namespace lathe

#endif  // LATHE_MODELS_MODEL_CONFIG_H_
