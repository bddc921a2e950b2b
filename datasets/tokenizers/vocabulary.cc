#include "lathe/datasets/tokenizers/vocabulary.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "lathe/datasets/tokenizers/json_fields.h"

namespace lathe {

void Vocabulary::Reserve(size_t num_tokens) {
  id_of_.reserve(num_tokens);
  token_of_.reserve(num_tokens);
}

absl::Status Vocabulary::Add(std::string token, int32_t id) {
  if (const std::string* taken = Token(id); taken != nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("id ", id, " is given to two tokens, ",
                                                   Abbreviate(*taken), " and ", Abbreviate(token)));
  }
  const auto [it, is_new] = id_of_.emplace(std::move(token), id);
  if (!is_new) {
    return absl::InvalidArgumentError(
        absl::StrCat("token ", Abbreviate(it->first), " has two ids, ", it->second, " and ", id));
  }
  if (id >= end_id()) token_of_.resize(id + 1, nullptr);
  token_of_[id] = &it->first;
  return absl::OkStatus();
}

int32_t Vocabulary::Find(std::string_view token) const {
  const auto it = id_of_.find(token);
  return it == id_of_.end() ? -1 : it->second;
}

const std::string* Vocabulary::Token(int32_t id) const {
  return id >= 0 && id < end_id() ? token_of_[id] : nullptr;
}

}  // namespace lathe
