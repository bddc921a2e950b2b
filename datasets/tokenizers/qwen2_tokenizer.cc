#include "lathe/datasets/tokenizers/qwen2_tokenizer.h"

namespace lathe {
namespace {

constexpr char kPattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

}  // namespace

bool PutQwen2Parts(bool add_prefix_space, nlohmann::json* fields) {
  const nlohmann::json normalizer = {{"type", "NFC"}};
  const nlohmann::json pre_tokenizer = {{"type", "Sequence"},
                                        {"pretokenizers",
                                         {{{"type", "Split"},
                                           {"pattern", {{"Regex", kPattern}}},
                                           {"behavior", "Isolated"},
                                           {"invert", false}},
                                          {{"type", "ByteLevel"},
                                           {"add_prefix_space", add_prefix_space},
                                           {"trim_offsets", true},
                                           {"use_regex", false}}}}};
  // trim_offsets moves offsets, which we do not have, and differs between Qwen's own files.
  nlohmann::json before = fields->contains("pre_tokenizer") ? (*fields)["pre_tokenizer"] : nullptr;
  if (before.is_object() && before.contains("pretokenizers") &&
      before["pretokenizers"].is_array()) {
    for (nlohmann::json& step : before["pretokenizers"]) {
      if (step.is_object() && step.contains("trim_offsets")) step["trim_offsets"] = true;
    }
  }
  const bool changes = before != pre_tokenizer || (*fields)["normalizer"] != normalizer;
  (*fields)["normalizer"] = normalizer;
  (*fields)["pre_tokenizer"] = pre_tokenizer;
  (*fields)["decoder"] = {{"type", "ByteLevel"}};
  for (const char* option : {"unk_token", "fuse_unk", "ignore_merges", "byte_fallback", "dropout",
                             "continuing_subword_prefix", "end_of_word_suffix"}) {
    (*fields)["model"][option] = nullptr;
  }
  return changes;
}

}  // namespace lathe
