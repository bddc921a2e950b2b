#include "lathe/datasets/tokenizers/tokenizer_json.h"

#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/datasets/tokenizers/bounded_json.h"
#include "lathe/datasets/tokenizers/json_fields.h"

namespace lathe {
namespace {

constexpr size_t kMaxBytes = 64 << 20;
// The largest vocabularies in use have 262,144 tokens. This keeps tables by id small whatever a
// file says.
constexpr uint64_t kMaxVocabSize = 1 << 22;
constexpr size_t kMaxMerges = 1 << 22;

// Takes model.vocab and model.merges out of the stream of events and leaves the rest to the
// builder.
class TokenizerJsonBuilder : public BoundedJsonBuilder {
 public:
  explicit TokenizerJsonBuilder(TokenizerJson* out) : out_(out) {}

  bool null() override { return part_ == kElsewhere ? BoundedJsonBuilder::null() : Value(nullptr); }
  bool boolean(bool v) override {
    return part_ == kElsewhere ? BoundedJsonBuilder::boolean(v) : Value(v);
  }
  bool number_integer(number_integer_t v) override {
    return part_ == kElsewhere ? BoundedJsonBuilder::number_integer(v) : Value(v);
  }
  bool number_unsigned(number_unsigned_t v) override {
    return part_ == kElsewhere ? BoundedJsonBuilder::number_unsigned(v) : Id(v);
  }
  bool number_float(number_float_t v, const string_t& text) override {
    return part_ == kElsewhere ? BoundedJsonBuilder::number_float(v, text) : Value(v);
  }
  bool string(string_t& v) override {
    return part_ == kElsewhere ? BoundedJsonBuilder::string(v) : String(v);
  }
  bool key(string_t& v) override {
    if (part_ == kVocab) {
      token_ = std::move(v);
      return true;
    }
    if (part_ == kSkipped) return true;
    if (depth() == 1) in_model_ = v == "model";
    return BoundedJsonBuilder::key(v);
  }
  bool start_object(size_t size) override { return Start(/*is_object=*/true, size); }
  bool start_array(size_t size) override { return Start(/*is_object=*/false, size); }
  bool end_object() override {
    return part_ == kElsewhere ? BoundedJsonBuilder::end_object() : End();
  }
  bool end_array() override {
    return part_ == kElsewhere ? BoundedJsonBuilder::end_array() : End();
  }

 private:
  enum Part { kElsewhere, kVocab, kMerges, kMergePair, kSkipped };

  bool Start(bool is_object, size_t size) {
    switch (part_) {
      case kVocab:
        return Value(is_object ? nlohmann::json::object() : nlohmann::json::array());
      case kMerges:
        if (is_object) return Value(nlohmann::json::object());
        part_ = kMergePair;
        pair_.clear();
        return true;
      case kMergePair:
        return Value(is_object ? nlohmann::json::object() : nlohmann::json::array());
      case kSkipped:
        ++skipped_depth_;
        return true;
      case kElsewhere:
        break;
    }
    if (in_model_ && depth() == 2 && (last_key() == "vocab" || last_key() == "merges")) {
      if (last_key() == "merges" && is_object) return Fail("model.merges is an object, not a list");
      // A vocab that is an array belongs to another model type, which is refused by its name.
      part_ = last_key() == "vocab" && is_object     ? kVocab
              : last_key() == "merges" && !is_object ? kMerges
                                                     : kSkipped;
      skipped_depth_ = 1;
      return true;
    }
    return is_object ? BoundedJsonBuilder::start_object(size)
                     : BoundedJsonBuilder::start_array(size);
  }

  bool End() {
    if (part_ == kMergePair) {
      part_ = kMerges;
      if (pair_.size() != 2) return BadMerge(absl::StrCat("has ", pair_.size(), " parts"));
      return AddMerge(std::move(pair_[0]), std::move(pair_[1]));
    }
    if (part_ != kSkipped || --skipped_depth_ == 0) part_ = kElsewhere;
    return true;
  }

  bool Id(uint64_t id) {
    if (part_ != kVocab) return Value(id);
    if (id >= kMaxVocabSize) {
      return Fail(absl::StrCat("model.vocab[", Abbreviate(token_), "] is ", id, "; ids below ",
                               kMaxVocabSize, " are supported"));
    }
    out_->vocab.emplace_back(std::move(token_), static_cast<int32_t>(id));
    if (out_->vocab.size() > kMaxVocabSize) {
      return Fail(absl::StrCat("model.vocab has more than ", kMaxVocabSize, " tokens"));
    }
    return true;
  }

  bool String(string_t& value) {
    if (part_ == kMergePair) {
      if (pair_.size() == 2) return BadMerge("has more than 2 parts");
      pair_.push_back(std::move(value));
      return true;
    }
    if (part_ != kMerges) return Value(value);
    const size_t space = value.find(' ');
    if (space == std::string::npos || value.find(' ', space + 1) != std::string::npos) {
      return BadMerge(absl::StrCat("is ", Abbreviate(value)));
    }
    return AddMerge(value.substr(0, space), value.substr(space + 1));
  }

  bool AddMerge(std::string left, std::string right) {
    out_->merges.emplace_back(std::move(left), std::move(right));
    if (out_->merges.size() > kMaxMerges) {
      return Fail(absl::StrCat("model.merges has more than ", kMaxMerges, " entries"));
    }
    return true;
  }

  bool BadMerge(const std::string& what) {
    return Fail(absl::StrCat("model.merges[", out_->merges.size(), "] ", what,
                             "; expected two tokens, \"a b\" or [\"a\", \"b\"]"));
  }

  // A value of a type that has no place where it stands.
  bool Value(const nlohmann::json& value) {
    switch (part_) {
      case kVocab:
        return Fail(absl::StrCat("model.vocab[", Abbreviate(token_), "] is ", Abbreviate(value),
                                 "; expected an id, an integer from 0 on"));
      case kMerges:
      case kMergePair:
        return BadMerge(absl::StrCat("is or holds ", Abbreviate(value)));
      default:
        return true;
    }
  }

  TokenizerJson* out_;
  Part part_ = kElsewhere;
  bool in_model_ = false;
  std::string token_;
  std::vector<std::string> pair_;
  size_t skipped_depth_ = 0;
};

}  // namespace

absl::StatusOr<TokenizerJson> ReadTokenizerJson(const std::string& path) {
  ABSL_ASSIGN_OR_RETURN(const std::string content, ReadBoundedFile(path, kMaxBytes));
  TokenizerJson result;
  TokenizerJsonBuilder builder(&result);
  nlohmann::json::sax_parse(content, &builder);
  if (!builder.status().ok()) {
    return absl::Status(builder.status().code(),
                        absl::StrCat(path, ": ", builder.status().message()));
  }
  result.fields = std::move(builder.root());
  return result;
}

}  // namespace lathe
