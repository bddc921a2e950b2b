#include "lathe/datasets/tokenizers/added_tokens.h"

#include <algorithm>
#include <cstring>

#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/datasets/tokenizers/json_fields.h"
#include "lathe/datasets/tokenizers/unicode_classes.h"
#include "lathe/datasets/tokenizers/utf8.h"

namespace lathe {
namespace {

// Real tokens have some tens of bytes. The limits keep the search short and the trie small.
constexpr size_t kMaxContentBytes = 1024;
constexpr size_t kMaxTotalBytes = 4 << 20;

uint8_t ByteAt(std::string_view text, size_t i) { return static_cast<uint8_t>(text[i]); }

uint64_t ChildKey(uint32_t node, char byte) {
  return uint64_t{node} << 8 | static_cast<uint8_t>(byte);
}

bool BeginsWithClass(std::string_view text, size_t i, uint8_t bits) {
  return i < text.size() && (UnicodeClasses::Get()[DecodeUtf8(text.data() + i).value] & bits) != 0;
}

bool EndsWithClass(std::string_view text, size_t end, uint8_t bits) {
  return end > 0 && (UnicodeClasses::Get()[DecodeUtf8Before(text.data() + end).value] & bits) != 0;
}

}  // namespace

void AddedTokenFinder::Add(std::string_view pattern, const AddedToken& flags, int32_t id) {
  const size_t length = pattern.size();
  if (length == 0) return;
  const uint8_t first = ByteAt(pattern, 0);
  if (!is_first_[first]) ++num_first_;
  is_first_[first] = true;
  first_ = static_cast<char>(first);
  if (length == 1) {
    for (size_t second = 0; second < 256; ++second) is_prefix_.set(first << 8 | second);
  } else {
    is_prefix_.set(first << 8 | ByteAt(pattern, 1));
  }
  uint32_t node = 0;
  for (const char c : pattern) {
    const auto [child, is_new] =
        children_.try_emplace(ChildKey(node, c), static_cast<uint32_t>(token_at_.size()));
    if (is_new) token_at_.push_back(-1);
    node = child->second;
  }
  if (token_at_[node] >= 0) return;
  token_at_[node] = static_cast<int>(tokens_.size());
  tokens_.push_back({id, flags.single_word, flags.lstrip, flags.rstrip});
}

size_t AddedTokenFinder::LongestAt(std::string_view text, size_t position, Token* token) const {
  size_t end = 0;
  uint32_t node = 0;
  for (size_t i = position; i < text.size(); ++i) {
    const auto child = children_.find(ChildKey(node, text[i]));
    if (child == children_.end()) break;
    node = child->second;
    if (token_at_[node] < 0) continue;
    *token = tokens_[token_at_[node]];
    end = i + 1;
  }
  return end;
}

bool AddedTokenFinder::Next(std::string_view text, size_t covered, size_t* search_from,
                            Match* match) const {
  size_t i = *search_from;
  while (i < text.size()) {
    if (num_first_ == 1) {
      const void* found = std::memchr(text.data() + i, first_, text.size() - i);
      if (found == nullptr) break;
      i = static_cast<const char*>(found) - text.data();
    } else {
      while (i < text.size() && !is_first_[ByteAt(text, i)]) ++i;
      if (i == text.size()) break;
    }
    Token token;
    size_t end = 0;
    if (i + 1 == text.size() || is_prefix_[ByteAt(text, i) << 8 | ByteAt(text, i + 1)]) {
      end = LongestAt(text, i, &token);
    }
    if (end == 0) {
      ++i;
      continue;
    }
    size_t begin = i;
    i = *search_from = end;
    if (token.single_word &&
        (EndsWithClass(text, begin, kWordClass) || BeginsWithClass(text, end, kWordClass))) {
      continue;
    }
    if (token.lstrip) {
      const size_t floor = std::min(covered, begin);
      while (begin > floor && EndsWithClass(text, begin, kSpaceClass)) {
        begin -= DecodeUtf8Before(text.data() + begin).num_bytes;
      }
    }
    if (token.rstrip) {
      while (BeginsWithClass(text, end, kSpaceClass))
        end += DecodeUtf8(text.data() + end).num_bytes;
    }
    *match = {begin, end, token.id};
    return true;
  }
  *search_from = text.size();
  return false;
}

absl::Status AddedTokens::Add(const AddedToken& token, Vocabulary* vocabulary) {
  if (token.content.empty()) return absl::OkStatus();
  total_bytes_ += token.content.size();
  if (token.content.size() > kMaxContentBytes || total_bytes_ > kMaxTotalBytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("added token ", Abbreviate(token.content), " has ", token.content.size(),
                     " bytes, and all together have ", total_bytes_, "; at most ", kMaxContentBytes,
                     " and ", kMaxTotalBytes, " are supported"));
  }
  if (token.special && special_contents_.insert(token.content).second) special_.push_back(token);
  if (Contains(token)) return absl::OkStatus();
  int32_t id = vocabulary->Find(token.content);
  if (id < 0) {
    id = std::max(model_vocab_size_, max_id_ + 1);
    ABSL_RETURN_IF_ERROR(vocabulary->Add(token.content, id));
  }
  max_id_ = std::max(max_id_, id);
  flags_.insert_or_assign(token.content, token);
  if (!special_contents_.contains(token.content)) others_.push_back(token);
  return absl::OkStatus();
}

bool AddedTokens::Contains(const AddedToken& token) const {
  const auto it = flags_.find(token.content);
  return it != flags_.end() && it->second == token;
}

bool AddedTokens::ContainsContent(std::string_view content) const {
  return flags_.contains(content);
}

void AddedTokens::Build(const Vocabulary& vocabulary,
                        absl::FunctionRef<std::string(const std::string&)> normalize) {
  for (const std::vector<AddedToken>* tokens : {&special_, &others_}) {
    for (const AddedToken& token : *tokens) {
      const int32_t id = vocabulary.Find(token.content);
      const AddedToken& flags = flags_.at(token.content);
      if (token.normalized) {
        normalized_.Add(normalize(token.content), flags, id);
      } else {
        raw_.Add(token.content, flags, id);
      }
    }
  }
}

}  // namespace lathe
