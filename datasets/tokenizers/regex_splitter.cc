#include "lathe/datasets/tokenizers/regex_splitter.h"

#include <pcre2.h>

#include <string>
#include <utility>

#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/datasets/tokenizers/regex_translator.h"
#include "lathe/datasets/tokenizers/utf8.h"

namespace lathe {
namespace {

constexpr size_t kMaxPatternBytes = 64 << 10;

template <typename T, void (*kFree)(T*)>
struct Free {
  void operator()(T* p) const { kFree(p); }
};
using CodePtr = std::unique_ptr<pcre2_code, Free<pcre2_code, pcre2_code_free>>;
using MatchDataPtr =
    std::unique_ptr<pcre2_match_data, Free<pcre2_match_data, pcre2_match_data_free>>;
using MatchContextPtr =
    std::unique_ptr<pcre2_match_context, Free<pcre2_match_context, pcre2_match_context_free>>;
using JitStackPtr = std::unique_ptr<pcre2_jit_stack, Free<pcre2_jit_stack, pcre2_jit_stack_free>>;

// What one thread needs to match; patterns share it, since a match is over before the next begins.
struct MatchState {
  MatchDataPtr data{pcre2_match_data_create(1, nullptr)};
  MatchContextPtr context{pcre2_match_context_create(nullptr)};
  JitStackPtr jit_stack{pcre2_jit_stack_create(64 << 10, 16 << 20, nullptr)};

  MatchState() {
    pcre2_jit_stack_assign(context.get(), nullptr, jit_stack.get());
    // Matches of real patterns take a few steps per character. This bounds the time of a hostile
    // one.
    pcre2_set_match_limit(context.get(), 20'000'000);
    pcre2_set_heap_limit(context.get(), 256 << 10);  // in KiB
  }

  static MatchState& OfThread() {
    thread_local MatchState state;
    return state;
  }
};

struct Match {
  Piece piece;
  bool is_match;
};

std::string ErrorText(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

class RegexSplitter : public Splitter {
 public:
  RegexSplitter(CodePtr code, SplitBehavior behavior, bool invert)
      : code_(std::move(code)), behavior_(behavior), invert_(invert) {
    uint32_t has_jit = 0;
    pcre2_config(PCRE2_CONFIG_JIT, &has_jit);
    has_jit_ = has_jit && pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE) == 0;
  }

  absl::Status Split(std::string_view text, size_t* position,
                     std::vector<Piece>* pieces) const override {
    if (behavior_ == SplitBehavior::kIsolated) return SplitIsolated(text, position, pieces);
    // The other behaviors look at neighbours, so they take the whole text at once.
    std::vector<Match> matches;
    size_t searched_from = 0, last_match_end = std::string_view::npos;
    uint32_t covered = 0;
    Piece found;
    while (true) {
      ABSL_ASSIGN_OR_RETURN(const bool more,
                            FindNext(text, &searched_from, &last_match_end, &found));
      if (!more) break;
      if (covered != found.begin) matches.push_back({{covered, found.begin}, invert_});
      matches.push_back({found, !invert_});
      covered = found.end;
    }
    if (covered != text.size())
      matches.push_back({{covered, static_cast<uint32_t>(text.size())}, invert_});
    Merge(matches, pieces);
    *position = text.size();
    return absl::OkStatus();
  }

 private:
  // Isolated cuts at both ends of each match, whether inverted or not, so each call can stop after
  // a match.
  absl::Status SplitIsolated(std::string_view text, size_t* position,
                             std::vector<Piece>* pieces) const {
    size_t searched_from = *position;
    size_t last_match_end = *position > 0 ? *position : std::string_view::npos;
    uint32_t covered = static_cast<uint32_t>(*position);
    Piece found;
    for (size_t i = 0; i < kPiecesPerCall; ++i) {
      ABSL_ASSIGN_OR_RETURN(const bool more,
                            FindNext(text, &searched_from, &last_match_end, &found));
      if (!more) {
        if (covered < text.size()) pieces->push_back({covered, static_cast<uint32_t>(text.size())});
        covered = static_cast<uint32_t>(text.size());
        break;
      }
      if (covered < found.begin) pieces->push_back({covered, found.begin});
      if (found.begin < found.end) pieces->push_back(found);
      covered = found.end;
    }
    *position = covered;
    return absl::OkStatus();
  }

  // The next match at or after `*searched_from`. As in Hugging Face's engine, an empty match right
  // after another match does not count.
  absl::StatusOr<bool> FindNext(std::string_view text, size_t* searched_from,
                                size_t* last_match_end, Piece* found) const {
    while (*searched_from <= text.size()) {
      ABSL_ASSIGN_OR_RETURN(const bool any, Search(text, *searched_from, found));
      if (!any) return false;
      if (found->begin != found->end || found->end != *last_match_end) {
        *searched_from = *last_match_end = found->end;
        return true;
      }
      *searched_from +=
          *searched_from < text.size() ? DecodeUtf8(text.data() + *searched_from).num_bytes : 1;
    }
    return false;
  }

  absl::StatusOr<bool> Search(std::string_view text, size_t from, Piece* found) const {
    MatchState& state = MatchState::OfThread();
    const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    int rc = PCRE2_ERROR_JIT_STACKLIMIT;
    if (has_jit_) {
      rc = pcre2_jit_match(code_.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK,
                           state.data.get(), state.context.get());
    }
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
      // The interpreter keeps its stack on the heap and may have more of it.
      rc = pcre2_match(code_.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                       state.data.get(), state.context.get());
    }
    if (rc == PCRE2_ERROR_NOMATCH) return false;
    if (rc < 0) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "the tokenizer's split pattern failed at byte ", from, " of a text of ", text.size(),
          " bytes: ", ErrorText(rc), "; shorten the text or simplify the pattern"));
    }
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(state.data.get());
    *found = {static_cast<uint32_t>(range[0]), static_cast<uint32_t>(range[1])};
    return true;
  }

  void Merge(const std::vector<Match>& matches, std::vector<Piece>* out) const {
    std::vector<Piece> pieces;
    bool previous_is_match = false;
    switch (behavior_) {
      case SplitBehavior::kIsolated:
      case SplitBehavior::kRemoved:
        for (const Match& m : matches) {
          if (!m.is_match) pieces.push_back(m.piece);
        }
        break;
      case SplitBehavior::kMergedWithPrevious:
        for (const Match& m : matches) {
          if (m.is_match && !previous_is_match && !pieces.empty()) {
            pieces.back().end = m.piece.end;
          } else {
            pieces.push_back(m.piece);
          }
          previous_is_match = m.is_match;
        }
        break;
      case SplitBehavior::kMergedWithNext:
        for (size_t i = matches.size(); i-- > 0;) {
          if (matches[i].is_match && !previous_is_match && !pieces.empty()) {
            pieces.back().begin = matches[i].piece.begin;
          } else {
            pieces.push_back(matches[i].piece);
          }
          previous_is_match = matches[i].is_match;
        }
        pieces = std::vector<Piece>(pieces.rbegin(), pieces.rend());
        break;
      case SplitBehavior::kContiguous:
        for (const Match& m : matches) {
          if (m.is_match == previous_is_match && !pieces.empty()) {
            pieces.back().end = m.piece.end;
          } else {
            pieces.push_back(m.piece);
          }
          previous_is_match = m.is_match;
        }
        break;
    }
    for (const Piece& piece : pieces) {
      if (piece.begin != piece.end) out->push_back(piece);
    }
  }

  CodePtr code_;
  SplitBehavior behavior_;
  bool invert_;
  bool has_jit_;
};

absl::StatusOr<CodePtr> Compile(std::string_view pattern, uint32_t options) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  CodePtr code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), options,
                             &error, &offset, nullptr));
  if (code != nullptr) return code;
  return absl::InvalidArgumentError(
      absl::StrCat("the pattern does not compile: ", ErrorText(error)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Splitter>> MakeRegexSplitter(std::string_view pattern,
                                                            SplitBehavior behavior, bool invert) {
  if (pattern.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the pattern has ", pattern.size(),
                                                   " bytes; at most ", kMaxPatternBytes,
                                                   " are supported"));
  }
  ABSL_ASSIGN_OR_RETURN(const std::string translated, TranslateRegex(pattern));
  // In Oniguruma's default syntax ^ and $ always match at line ends.
  ABSL_ASSIGN_OR_RETURN(CodePtr code, Compile(translated, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE));
  return std::make_unique<RegexSplitter>(std::move(code), behavior, invert);
}

absl::StatusOr<std::unique_ptr<Splitter>> MakeLiteralSplitter(std::string_view literal,
                                                              SplitBehavior behavior, bool invert) {
  if (literal.empty()) return absl::InvalidArgumentError("the pattern is an empty string");
  ABSL_ASSIGN_OR_RETURN(CodePtr code, Compile(literal, PCRE2_UTF | PCRE2_LITERAL));
  return std::make_unique<RegexSplitter>(std::move(code), behavior, invert);
}

}  // namespace lathe
