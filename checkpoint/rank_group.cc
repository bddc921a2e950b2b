#include "lathe/checkpoint/rank_group.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace lathe {

absl::Status RankGroup::Agree(const absl::Status& mine) const {
  std::string text;
  if (!mine.ok()) text = absl::StrCat(static_cast<int>(mine.code()), " ", mine.message());
  const std::vector<std::string> texts = all_gather(std::move(text));
  for (size_t i = 0; i < texts.size(); ++i) {
    if (texts[i].empty()) continue;
    const size_t space = texts[i].find(' ');
    int code = static_cast<int>(absl::StatusCode::kUnknown);
    if (!absl::SimpleAtoi(std::string_view(texts[i]).substr(0, space), &code)) {
      return absl::InternalError(
          "a rank sent something else than its status: the ranks are not in step");
    }
    const std::string message = texts[i].substr(space + 1);
    return absl::Status(static_cast<absl::StatusCode>(code),
                        num_ranks == 1 ? message : absl::StrCat("rank ", i, ": ", message));
  }
  return absl::OkStatus();
}

}  // namespace lathe
