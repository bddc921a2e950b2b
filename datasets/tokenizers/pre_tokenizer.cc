#include "lathe/datasets/tokenizers/pre_tokenizer.h"

#include <utility>

#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/datasets/tokenizers/json_fields.h"
#include "lathe/datasets/tokenizers/pattern_scanner.h"
#include "lathe/datasets/tokenizers/regex_splitter.h"

namespace lathe {
namespace {

constexpr size_t kMaxSteps = 64;

absl::StatusOr<SplitBehavior> ParseBehavior(const std::string& name, const std::string& field) {
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return absl::InvalidArgumentError(absl::StrCat(
      field, ".behavior is \"", name,
      "\"; expected Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous"));
}

absl::StatusOr<std::unique_ptr<Splitter>> MakeSplit(const nlohmann::json& step,
                                                    const std::string& field) {
  ABSL_ASSIGN_OR_RETURN(const std::string name, StringField(step, field, "behavior"));
  ABSL_ASSIGN_OR_RETURN(const SplitBehavior behavior, ParseBehavior(name, field));
  ABSL_ASSIGN_OR_RETURN(const bool invert, BoolField(step, field, "invert", false));
  ABSL_ASSIGN_OR_RETURN(const nlohmann::json* pattern, ObjectField(step, field, "pattern"));
  const std::string pattern_field = field + ".pattern";
  absl::StatusOr<std::unique_ptr<Splitter>> splitter;
  if (pattern->contains("Regex")) {
    ABSL_ASSIGN_OR_RETURN(const std::string regex, StringField(*pattern, pattern_field, "Regex"));
    // Isolated cuts at the same places inverted or not.
    if (behavior == SplitBehavior::kIsolated) {
      if (auto scanner = MakePatternScanner(regex); scanner != nullptr) return scanner;
    }
    splitter = MakeRegexSplitter(regex, behavior, invert);
  } else {
    ABSL_ASSIGN_OR_RETURN(const std::string literal,
                          StringField(*pattern, pattern_field, "String"));
    splitter = MakeLiteralSplitter(literal, behavior, invert);
  }
  if (!splitter.ok()) {
    return absl::Status(splitter.status().code(),
                        absl::StrCat(pattern_field, ": ", splitter.status().message()));
  }
  return splitter;
}

}  // namespace

absl::StatusOr<PreTokenizer> PreTokenizer::FromJson(const nlohmann::json& pre_tokenizer) {
  PreTokenizer result;
  ABSL_RETURN_IF_ERROR(result.AddStep(pre_tokenizer, "pre_tokenizer"));
  // Run calls itself once for each step.
  if (result.steps_.size() > kMaxSteps) {
    return absl::UnimplementedError(absl::StrCat("pre_tokenizer has ", result.steps_.size(),
                                                 " steps; at most ", kMaxSteps, " are supported"));
  }
  if (!result.has_byte_level_) {
    return absl::UnimplementedError(
        "pre_tokenizer has no ByteLevel step; only byte-level BPE is supported");
  }
  return result;
}

absl::Status PreTokenizer::AddStep(const nlohmann::json& step, const std::string& field) {
  ABSL_ASSIGN_OR_RETURN(const std::string type, StringField(step, field, "type"));
  if (type == "Sequence") {
    ABSL_ASSIGN_OR_RETURN(const nlohmann::json* steps, ArrayField(step, field, "pretokenizers"));
    for (size_t i = 0; i < steps->size(); ++i) {
      ABSL_RETURN_IF_ERROR(AddStep((*steps)[i], absl::StrCat(field, ".pretokenizers[", i, "]")));
    }
    return absl::OkStatus();
  }
  if (has_byte_level_) {
    return absl::UnimplementedError(absl::StrCat(
        field, " is ", type, " and follows ByteLevel; ByteLevel must be the last step"));
  }
  if (type == "ByteLevel") {
    has_byte_level_ = true;
    ABSL_ASSIGN_OR_RETURN(const bool add_prefix_space,
                          BoolField(step, field, "add_prefix_space", true));
    ABSL_ASSIGN_OR_RETURN(const bool use_regex, BoolField(step, field, "use_regex", true));
    if (add_prefix_space) steps_.push_back(nullptr);
    if (use_regex) steps_.push_back(MakePatternScanner(kGpt2Pattern));
    return absl::OkStatus();
  }
  if (type == "Digits") {
    ABSL_ASSIGN_OR_RETURN(const bool individual,
                          BoolField(step, field, "individual_digits", false));
    steps_.push_back(MakeDigitsSplitter(individual));
    return absl::OkStatus();
  }
  if (type == "Split") {
    ABSL_ASSIGN_OR_RETURN(std::unique_ptr<Splitter> splitter, MakeSplit(step, field));
    steps_.push_back(std::move(splitter));
    return absl::OkStatus();
  }
  return absl::UnimplementedError(absl::StrCat(
      field, ".type is ", type, "; supported are Sequence, Split, Digits and ByteLevel"));
}

absl::Status PreTokenizer::Run(std::string_view text, Scratch* scratch, Sink sink) const {
  if (text.empty()) return absl::OkStatus();
  scratch->pieces.resize(steps_.size());
  scratch->prefixed.resize(steps_.size());
  return RunFrom(0, text, scratch, sink);
}

absl::Status PreTokenizer::RunFrom(size_t step, std::string_view text, Scratch* scratch,
                                   Sink sink) const {
  if (step == steps_.size()) {
    const Piece all = {0, static_cast<uint32_t>(text.size())};
    sink(text, absl::MakeConstSpan(&all, 1));
    return absl::OkStatus();
  }
  if (steps_[step] == nullptr) {
    if (text.front() == ' ') return RunFrom(step + 1, text, scratch, sink);
    std::string& prefixed = scratch->prefixed[step];
    prefixed.assign(1, ' ');
    prefixed.append(text);
    return RunFrom(step + 1, prefixed, scratch, sink);
  }
  std::vector<Piece>& pieces = scratch->pieces[step];
  for (size_t position = 0; position < text.size();) {
    pieces.clear();
    ABSL_RETURN_IF_ERROR(steps_[step]->Split(text, &position, &pieces));
    if (step + 1 == steps_.size()) {
      sink(text, pieces);
      continue;
    }
    for (const Piece& piece : pieces) {
      ABSL_RETURN_IF_ERROR(
          RunFrom(step + 1, text.substr(piece.begin, piece.end - piece.begin), scratch, sink));
    }
  }
  return absl::OkStatus();
}

}  // namespace lathe
