#include "lathe/tests/process/tiny_pretraining.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "lathe/tests/process/program.h"

namespace lathe {
namespace {

constexpr int kEndOfText = 256;

// GPT-2's printable character for a byte, in UTF-8.
std::string ByteCharacter(int byte) {
  const auto prints = [](int b) {
    return (33 <= b && b <= 126) || (161 <= b && b <= 172) || (174 <= b && b <= 255);
  };
  int code = byte;
  if (!prints(byte)) {
    code = 256;
    for (int before = 0; before < byte; ++before) code += prints(before) ? 0 : 1;
  }
  if (code < 128) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 63))};
}

// Documents of 40 letters, always the same.
std::string Documents(int count, uint64_t state) {
  std::string lines;
  for (int i = 0; i < count; ++i) {
    std::string text;
    for (int j = 0; j < 40; ++j) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      text += "abcdefgh "[(state >> 33) % 9];
    }
    absl::StrAppend(&lines, nlohmann::json{{"text", text}}.dump(), "\n");
  }
  return lines;
}

}  // namespace

nlohmann::json TinyModelConfig(int num_layers) {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"vocab_size", 300},
          {"hidden_size", 16},
          {"intermediate_size", 32},
          {"num_hidden_layers", num_layers},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 1},
          {"max_position_embeddings", 64},
          {"tie_word_embeddings", false},
          {"initializer_range", 0.02},
          {"rms_norm_eps", 1e-6},
          {"rope_theta", 10000.0},
          {"hidden_act", "silu"}};
}

nlohmann::json TinyTokenizer() {
  nlohmann::json vocab = nlohmann::json::object();
  for (int byte = 0; byte < 256; ++byte) vocab[ByteCharacter(byte)] = byte;
  vocab["<|endoftext|>"] = kEndOfText;
  const nlohmann::json added = {
      {"id", kEndOfText}, {"content", "<|endoftext|>"}, {"single_word", false}, {"lstrip", false},
      {"rstrip", false},  {"normalized", false},        {"special", true}};
  const nlohmann::json byte_level = {{"type", "ByteLevel"},
                                     {"add_prefix_space", false},
                                     {"trim_offsets", true},
                                     {"use_regex", true}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", nlohmann::json::array({added})},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", nullptr},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"vocab", std::move(vocab)},
            {"merges", nlohmann::json::array()}}}};
}

TinyPretraining::TinyPretraining(const std::string& folder, int num_layers)
    : model_folder_(folder + "/tiny_model"),
      train_file_(folder + "/train.jsonl"),
      validation_file_(folder + "/validation.jsonl") {
  WriteFile(model_folder_ + "/config.json", TinyModelConfig(num_layers).dump(2));
  WriteFile(model_folder_ + "/tokenizer.json", TinyTokenizer().dump(2));
  WriteFile(model_folder_ + "/tokenizer_config.json",
            R"({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"})");
  WriteFile(train_file_, Documents(40, 1));
  WriteFile(validation_file_, Documents(10, 2));
}

std::vector<std::string> TinyPretraining::Flags(const std::string& output_dir,
                                                const std::vector<std::string>& more) const {
  std::vector<std::pair<std::string, std::string>> flags = {{"--output_dir", output_dir},
                                                            {"--config_name", model_folder_},
                                                            {"--tokenizer_name", model_folder_},
                                                            {"--train_files", train_file_},
                                                            {"--block_size", "32"},
                                                            {"--per_device_train_batch_size", "4"},
                                                            {"--gradient_accumulation_steps", "2"},
                                                            {"--num_train_epochs", "2"},
                                                            {"--learning_rate", "1e-3"},
                                                            {"--logging_steps", "1"},
                                                            {"--save_steps", "2"}};
  const auto replaced = [&](const std::string& name) {
    return std::find(more.begin(), more.end(), name) != more.end();
  };
  std::vector<std::string> words;
  for (const auto& [name, value] : flags) {
    const bool other_model = name == "--config_name" && replaced("--model_name_or_path");
    if (replaced(name) || other_model) continue;
    words.push_back(name);
    words.push_back(value);
  }
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

}  // namespace lathe
