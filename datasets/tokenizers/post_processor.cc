#include "lathe/datasets/tokenizers/post_processor.h"

#include <string>

#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/datasets/tokenizers/json_fields.h"

namespace lathe {
namespace {

// The ids behind special_tokens[name] of a template.
absl::StatusOr<std::vector<int32_t>> SpecialIds(const nlohmann::json& special_tokens,
                                                const std::string& field, const std::string& name,
                                                int32_t end_id) {
  ABSL_ASSIGN_OR_RETURN(const nlohmann::json* token, ObjectField(special_tokens, field, name));
  const std::string token_field = absl::StrCat(field, "[", Abbreviate(name), "]");
  ABSL_ASSIGN_OR_RETURN(const nlohmann::json* ids, ArrayField(*token, token_field, "ids"));
  std::vector<int32_t> result;
  for (const nlohmann::json& id : *ids) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= static_cast<uint64_t>(end_id)) {
      return absl::InvalidArgumentError(absl::StrCat(token_field, ".ids has ", Abbreviate(id),
                                                     "; expected ids of the vocabulary, below ",
                                                     end_id));
    }
    result.push_back(id.get<int32_t>());
  }
  return result;
}

constexpr size_t kMostSpecialIds = 4096;

absl::Status AddTemplate(const nlohmann::json& processor, const std::string& field, int32_t end_id,
                         PostProcessor* result) {
  ABSL_ASSIGN_OR_RETURN(const nlohmann::json* pieces, ArrayField(processor, field, "single"));
  ABSL_ASSIGN_OR_RETURN(const nlohmann::json* special_tokens,
                        ObjectField(processor, field, "special_tokens"));
  std::vector<int32_t> before, after;
  int num_texts = 0;
  for (size_t i = 0; i < pieces->size(); ++i) {
    const nlohmann::json& piece = (*pieces)[i];
    const std::string piece_field = absl::StrCat(field, ".single[", i, "]");
    if (piece.is_object() && piece.contains("Sequence")) {
      ++num_texts;
      continue;
    }
    ABSL_ASSIGN_OR_RETURN(const nlohmann::json* special,
                          ObjectField(piece, piece_field, "SpecialToken"));
    ABSL_ASSIGN_OR_RETURN(const std::string name,
                          StringField(*special, piece_field + ".SpecialToken", "id"));
    ABSL_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                          SpecialIds(*special_tokens, field + ".special_tokens", name, end_id));
    std::vector<int32_t>& side = num_texts == 0 ? before : after;
    side.insert(side.end(), ids.begin(), ids.end());
    if (side.size() > kMostSpecialIds) {
      return absl::InvalidArgumentError(absl::StrCat(
          field, ".single adds more than ", kMostSpecialIds, " special tokens to each text"));
    }
  }
  if (num_texts != 1) {
    return absl::UnimplementedError(
        absl::StrCat(field, ".single has the text ", num_texts, " times; only once is supported"));
  }
  result->prefix.insert(result->prefix.begin(), before.begin(), before.end());
  result->suffix.insert(result->suffix.end(), after.begin(), after.end());
  return absl::OkStatus();
}

absl::Status AddProcessor(const nlohmann::json& processor, const std::string& field, int32_t end_id,
                          PostProcessor* result) {
  if (processor.is_null()) return absl::OkStatus();
  ABSL_ASSIGN_OR_RETURN(const std::string type, StringField(processor, field, "type"));
  if (type == "ByteLevel") return absl::OkStatus();
  if (type == "TemplateProcessing") return AddTemplate(processor, field, end_id, result);
  if (type != "Sequence") {
    return absl::UnimplementedError(
        absl::StrCat(field, ".type is ", type,
                     "; supported are null, ByteLevel, TemplateProcessing and Sequence"));
  }
  ABSL_ASSIGN_OR_RETURN(const nlohmann::json* steps, ArrayField(processor, field, "processors"));
  for (size_t i = 0; i < steps->size(); ++i) {
    ABSL_RETURN_IF_ERROR(
        AddProcessor((*steps)[i], absl::StrCat(field, ".processors[", i, "]"), end_id, result));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PostProcessor> PostProcessor::FromJson(const nlohmann::json& processor,
                                                      int32_t end_id) {
  PostProcessor result;
  ABSL_RETURN_IF_ERROR(AddProcessor(processor, "post_processor", end_id, &result));
  return result;
}

}  // namespace lathe
