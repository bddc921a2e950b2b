#include "lathe/datasets/tokenizers/tokenizer.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status_macros.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "lathe/base/logging.h"
#include "lathe/datasets/tokenizers/byte_level.h"
#include "lathe/datasets/tokenizers/json_fields.h"
#include "lathe/datasets/tokenizers/qwen2_tokenizer.h"
#include "lathe/datasets/tokenizers/special_tokens.h"
#include "lathe/datasets/tokenizers/text_encoder.h"
#include "lathe/datasets/tokenizers/tokenizer_json.h"
#include "lathe/datasets/tokenizers/utf8.h"
#include "lathe/datasets/tokenizers/vocabulary.h"

namespace lathe {

struct Tokenizer::Parts {
  Vocabulary vocabulary;
  std::unique_ptr<TextEncoder> encoder;
  int32_t bos_id = -1, eos_id = -1, pad_id = -1;
  std::optional<int64_t> model_max_length;

  // Workspaces not in use. There are as many as threads have encoded at the same time.
  absl::Mutex mutex;
  std::vector<std::unique_ptr<TextEncoder::Workspace>> free_workspaces ABSL_GUARDED_BY(mutex);
};

// Takes a workspace while it lives.
class Tokenizer::WorkspaceLease {
 public:
  explicit WorkspaceLease(Parts* parts) : parts_(parts) {
    absl::MutexLock lock(parts_->mutex);
    if (!parts_->free_workspaces.empty()) {
      workspace_ = std::move(parts_->free_workspaces.back());
      parts_->free_workspaces.pop_back();
    } else {
      workspace_ = std::make_unique<TextEncoder::Workspace>();
    }
  }

  ~WorkspaceLease() {
    absl::MutexLock lock(parts_->mutex);
    parts_->free_workspaces.push_back(std::move(workspace_));
  }

  WorkspaceLease(const WorkspaceLease&) = delete;
  WorkspaceLease& operator=(const WorkspaceLease&) = delete;

  TextEncoder::Workspace* get() { return workspace_.get(); }

 private:
  Parts* parts_;
  std::unique_ptr<TextEncoder::Workspace> workspace_;
};

namespace {

absl::Status CheckModel(const nlohmann::json& model) {
  // Files of 2020 name no type; a BPE model is the one with merges.
  if (HasField(model, "type")) {
    ABSL_ASSIGN_OR_RETURN(const std::string type, StringField(model, "model", "type"));
    if (type != "BPE") {
      return absl::UnimplementedError(
          absl::StrCat("model.type is ", type, "; only byte-level BPE is supported"));
    }
  }
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!HasField(model, name)) continue;
    ABSL_ASSIGN_OR_RETURN(const std::string value, StringField(model, "model", name));
    if (!value.empty()) {
      return absl::UnimplementedError(absl::StrCat("model.", name, " is ", Abbreviate(model[name]),
                                                   "; only null is supported"));
    }
  }
  if (HasField(model, "dropout") && model["dropout"] != 0.0) {
    return absl::UnimplementedError(absl::StrCat("model.dropout is ", Abbreviate(model["dropout"]),
                                                 "; only null is supported"));
  }
  ABSL_ASSIGN_OR_RETURN(const bool byte_fallback,
                        BoolField(model, "model", "byte_fallback", false));
  if (byte_fallback) {
    return absl::UnimplementedError(
        "model.byte_fallback is true; only byte-level BPE is supported");
  }
  return absl::OkStatus();
}

// The decoder must be ByteLevel, alone or in a Sequence.
absl::Status CheckDecoder(const nlohmann::json& decoder, const std::string& field) {
  ABSL_ASSIGN_OR_RETURN(const std::string type, StringField(decoder, field, "type"));
  if (type == "ByteLevel") return absl::OkStatus();
  if (type == "Sequence") {
    ABSL_ASSIGN_OR_RETURN(const nlohmann::json* steps, ArrayField(decoder, field, "decoders"));
    if (steps->size() == 1) return CheckDecoder((*steps)[0], field + ".decoders[0]");
    return absl::UnimplementedError(
        absl::StrCat(field, " has ", steps->size(), " steps; only ByteLevel is supported"));
  }
  return absl::UnimplementedError(
      absl::StrCat(field, ".type is ", type, "; only ByteLevel is supported"));
}

absl::StatusOr<Bpe> MakeBpe(const TokenizerJson& file, const nlohmann::json& model,
                            const Vocabulary& vocabulary) {
  Bpe::Options options;
  if (HasField(model, "unk_token")) {
    ABSL_ASSIGN_OR_RETURN(options.unk_token, StringField(model, "model", "unk_token"));
  }
  ABSL_ASSIGN_OR_RETURN(options.fuse_unk, BoolField(model, "model", "fuse_unk", false));
  ABSL_ASSIGN_OR_RETURN(options.ignore_merges, BoolField(model, "model", "ignore_merges", false));
  return Bpe::Create(vocabulary, file.merges, options);
}

absl::Status AddTokens(const nlohmann::json& file, const SpecialTokens& special_tokens,
                       AddedTokens* added, Vocabulary* vocabulary) {
  if (HasField(file, "added_tokens")) {
    ABSL_ASSIGN_OR_RETURN(const nlohmann::json* tokens, ArrayField(file, "", "added_tokens"));
    for (size_t i = 0; i < tokens->size(); ++i) {
      const std::string path = absl::StrCat("added_tokens[", i, "]");
      ABSL_ASSIGN_OR_RETURN(const AddedToken token, ParseAddedToken((*tokens)[i], path));
      ABSL_RETURN_IF_ERROR(added->Add(token, vocabulary));
    }
  }
  for (const AddedToken& token : special_tokens.added_tokens_decoder) {
    ABSL_RETURN_IF_ERROR(added->Add(token, vocabulary));
  }
  for (const AddedToken& token : special_tokens.named) {
    if (added->ContainsContent(token.content)) continue;
    ABSL_RETURN_IF_ERROR(added->Add(token, vocabulary));
  }
  return absl::OkStatus();
}

// Everything that tokenizer.json decides; errors name the field only.
absl::StatusOr<std::unique_ptr<TextEncoder>> MakeEncoder(TokenizerJson& file,
                                                         const SpecialTokens& special_tokens,
                                                         Vocabulary* vocabulary) {
  ABSL_ASSIGN_OR_RETURN(const nlohmann::json* model, ObjectField(file.fields, "", "model"));
  if (special_tokens.is_qwen2 && PutQwen2Parts(special_tokens.add_prefix_space, &file.fields)) {
    LOG(WARNING) << "The tokenizer's folder is of a Qwen2 model, for which transformers replaces "
                    "normalizer and "
                    "pre-tokenizer of tokenizer.json by Qwen2's; done here too";
  }
  const nlohmann::json& fields = file.fields;
  ABSL_RETURN_IF_ERROR(CheckModel(*model));
  if (file.vocab.empty()) {
    return absl::InvalidArgumentError(
        "model.vocab is missing or empty; expected an object from token to id");
  }
  ABSL_ASSIGN_OR_RETURN(Normalizer normalizer,
                        Normalizer::FromJson(FieldOrNull(fields, "normalizer")));
  ABSL_ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer,
                        PreTokenizer::FromJson(FieldOrNull(fields, "pre_tokenizer")));
  ABSL_RETURN_IF_ERROR(CheckDecoder(FieldOrNull(fields, "decoder"), "decoder"));
  vocabulary->Reserve(file.vocab.size());
  for (auto& [token, id] : file.vocab) {
    if (absl::Status status = vocabulary->Add(std::move(token), id); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("model.vocab: ", status.message()));
    }
  }
  ABSL_ASSIGN_OR_RETURN(Bpe bpe, MakeBpe(file, *model, *vocabulary));
  AddedTokens added(vocabulary->num_tokens());
  ABSL_RETURN_IF_ERROR(AddTokens(fields, special_tokens, &added, vocabulary));
  added.Build(*vocabulary, [&](const std::string& content) {
    std::string buffer;
    return std::string(normalizer.Apply(content, &buffer));
  });
  ABSL_ASSIGN_OR_RETURN(
      PostProcessor post_processor,
      PostProcessor::FromJson(FieldOrNull(fields, "post_processor"), vocabulary->end_id()));
  return std::make_unique<TextEncoder>(std::move(added), normalizer, std::move(pre_tokenizer),
                                       std::move(bpe), std::move(post_processor));
}

std::optional<int32_t> ToOptional(int32_t id) {
  return id < 0 ? std::nullopt : std::optional<int32_t>(id);
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& directory) {
  const std::string path = directory + "/tokenizer.json";
  ABSL_ASSIGN_OR_RETURN(TokenizerJson file, ReadTokenizerJson(path));
  ABSL_ASSIGN_OR_RETURN(const SpecialTokens special_tokens, ReadSpecialTokens(directory));
  auto parts = std::make_unique<Parts>();
  absl::StatusOr<std::unique_ptr<TextEncoder>> encoder =
      MakeEncoder(file, special_tokens, &parts->vocabulary);
  if (!encoder.ok()) {
    return absl::Status(encoder.status().code(),
                        absl::StrCat(path, ": ", encoder.status().message()));
  }
  parts->encoder = *std::move(encoder);
  const Vocabulary& vocabulary = parts->vocabulary;
  parts->bos_id = vocabulary.Find(special_tokens.bos_token);
  parts->eos_id = vocabulary.Find(special_tokens.eos_token.empty() ? "<|endoftext|>"
                                                                   : special_tokens.eos_token);
  parts->pad_id = vocabulary.Find(special_tokens.pad_token);
  parts->model_max_length = special_tokens.model_max_length;
  return std::unique_ptr<Tokenizer>(new Tokenizer(std::move(parts)));
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(std::string_view text,
                                                       bool add_special_tokens) const {
  std::vector<int32_t> ids;
  ABSL_RETURN_IF_ERROR(EncodeAppend(text, add_special_tokens, &ids));
  return ids;
}

absl::Status Tokenizer::EncodeAppend(std::string_view text, bool add_special_tokens,
                                     std::vector<int32_t>* ids) const {
  WorkspaceLease workspace(parts_.get());
  ABSL_RETURN_IF_ERROR(parts_->encoder->Encode(text, add_special_tokens, workspace.get()));
  const absl::Span<const int32_t> encoded = workspace.get()->ids.ids();
  ids->insert(ids->end(), encoded.begin(), encoded.end());
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::vector<int32_t>>> Tokenizer::EncodeBatch(
    absl::Span<const std::string_view> texts, bool add_special_tokens, int num_threads) const {
  std::vector<std::vector<int32_t>> ids(texts.size());
  std::vector<absl::Status> errors(texts.size());
  // Texts differ in length, so threads take them in small portions.
  constexpr size_t kPortion = 8;
  std::atomic<size_t> next{0};
  const auto work = [&] {
    while (true) {
      const size_t begin = next.fetch_add(kPortion);
      if (begin >= texts.size()) return;
      for (size_t i = begin; i < std::min(begin + kPortion, texts.size()); ++i) {
        errors[i] = EncodeAppend(texts[i], add_special_tokens, &ids[i]);
      }
    }
  };
  std::vector<std::thread> threads;
  for (int t = 1; t < num_threads; ++t) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < texts.size(); ++i) {
    if (!errors[i].ok()) {
      return absl::Status(errors[i].code(), absl::StrCat("text ", i, ": ", errors[i].message()));
    }
  }
  return ids;
}

absl::StatusOr<std::vector<size_t>> Tokenizer::TokenEnds(std::string_view text,
                                                         absl::Span<const int32_t> ids) const {
  const auto has_no_token = [&](char c) {
    return parts_->vocabulary.Find(ByteLevelCharacter(static_cast<uint8_t>(c))) < 0;
  };
  // Where `bytes` end that lie at `at`, with bytes between them that have no token; npos if they
  // do not.
  const auto end_of = [&](const std::string& bytes, size_t at) {
    for (const char byte : bytes) {
      while (at < text.size() && text[at] != byte && has_no_token(text[at])) ++at;
      if (at >= text.size() || text[at] != byte) return std::string::npos;
      ++at;
    }
    return at;
  };
  std::vector<size_t> ends;
  ends.reserve(ids.size());
  std::string bytes;
  for (const int32_t id : ids) {
    const std::string* token = parts_->vocabulary.Token(id);
    bytes.clear();
    if (token != nullptr && !AppendByteLevelBytes(*token, &bytes)) bytes = *token;
    const size_t at = ends.empty() ? 0 : ends.back();
    size_t begin = at, end = std::string::npos;
    // After whitespace that an added token took away: on its left, or one before it on its right.
    while (token != nullptr && (end = end_of(bytes, begin)) == std::string::npos &&
           begin < text.size() && absl::ascii_isspace(static_cast<unsigned char>(text[begin]))) {
      ++begin;
    }
    if (end == std::string::npos) {
      return absl::FailedPreconditionError(absl::StrCat("token ", ends.size(),
                                                        " is not the text at byte ", at,
                                                        ": the tokenizer changes this text"));
    }
    ends.push_back(end);
  }
  return ends;
}

std::string Tokenizer::Normalize(std::string_view text) const {
  std::string buffer;
  return std::string(parts_->encoder->normalizer().Apply(text, &buffer));
}

std::string Tokenizer::Decode(absl::Span<const int32_t> ids, bool skip_special_tokens) const {
  const AddedTokens& added = parts_->encoder->added_tokens();
  std::string bytes;
  for (const int32_t id : ids) {
    const std::string* token = parts_->vocabulary.Token(id);
    if (token == nullptr || (skip_special_tokens && added.IsSpecial(*token))) continue;
    if (!AppendByteLevelBytes(*token, &bytes)) bytes.append(*token);
  }
  return ReplaceInvalidUtf8(bytes);
}

int32_t Tokenizer::vocab_size() const { return parts_->vocabulary.end_id(); }

std::optional<int32_t> Tokenizer::TokenToId(std::string_view token) const {
  return ToOptional(parts_->vocabulary.Find(token));
}

std::optional<std::string> Tokenizer::IdToToken(int32_t id) const {
  const std::string* token = parts_->vocabulary.Token(id);
  return token == nullptr ? std::nullopt : std::optional<std::string>(*token);
}

std::optional<int32_t> Tokenizer::bos_id() const { return ToOptional(parts_->bos_id); }
std::optional<int32_t> Tokenizer::eos_id() const { return ToOptional(parts_->eos_id); }
std::optional<int32_t> Tokenizer::pad_id() const { return ToOptional(parts_->pad_id); }
std::optional<int64_t> Tokenizer::model_max_length() const { return parts_->model_max_length; }

}  // namespace lathe
