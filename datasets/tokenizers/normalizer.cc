#include "lathe/datasets/tokenizers/normalizer.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uniset.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/log/check.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/datasets/tokenizers/json_fields.h"
#include "lathe/datasets/tokenizers/unicode_classes.h"
#include "lathe/datasets/tokenizers/utf8.h"

namespace lathe {
namespace {

absl::StatusOr<bool> UsesNfc(const nlohmann::json& normalizer, const std::string& field) {
  if (normalizer.is_null()) return false;
  ABSL_ASSIGN_OR_RETURN(const std::string type, StringField(normalizer, field, "type"));
  if (type == "NFC") return true;
  if (type != "Sequence") {
    return absl::UnimplementedError(
        absl::StrCat(field, ".type is ", type, "; supported are null, NFC and Sequence"));
  }
  ABSL_ASSIGN_OR_RETURN(const nlohmann::json* steps, ArrayField(normalizer, field, "normalizers"));
  bool nfc = false;
  for (size_t i = 0; i < steps->size(); ++i) {
    ABSL_ASSIGN_OR_RETURN(const bool step,
                          UsesNfc((*steps)[i], absl::StrCat(field, ".normalizers[", i, "]")));
    nfc = nfc || step;
  }
  return nfc;
}

// Code points below U+0300, whose bytes are all below 0xCC, do not change and do not combine.
bool IsBelowCombining(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0xCC) return false;
  }
  return true;
}

// NFC of Unicode 9.0, which is what the tokenizers library has: characters of later versions
// neither combine nor change order. It differs from today's in texts where such marks stand side by
// side.
const icu::Normalizer2& Nfc9() {
  static const icu::Normalizer2* nfc = [] {
    UErrorCode error = U_ZERO_ERROR;
    auto* assigned = new icu::UnicodeSet(icu::UnicodeString("[:age=9.0:]"), error);
    assigned->freeze();
    auto* filtered =
        new icu::FilteredNormalizer2(*icu::Normalizer2::getNFCInstance(error), *assigned);
    CHECK(U_SUCCESS(error)) << "ICU has no NFC: " << u_errorName(error);
    return filtered;
  }();
  return *nfc;
}

constexpr size_t kLongRun = 32;

bool HasLongRunOfMarks(std::string_view text) {
  const UnicodeClasses& classes = UnicodeClasses::Get();
  size_t length = 0;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = DecodeUtf8(text.data() + i);
    length = (classes[c.value] & kMarkClass) ? length + 1 : 0;
    if (length > kLongRun) return true;
    i += c.num_bytes;
  }
  return false;
}

// Puts long runs of combining marks into canonical order, which is a part of NFC. ICU inserts each
// mark at its place one by one, in quadratic time when a run is not in order.
std::string SortLongRunsOfMarks(std::string_view text) {
  struct Mark {
    uint8_t combining_class;
    size_t begin;
    size_t num_bytes;
  };
  std::string sorted(text);
  std::vector<Mark> run;
  const auto end_run = [&] {
    if (run.size() > kLongRun) {
      size_t out = run.front().begin;
      std::stable_sort(run.begin(), run.end(), [](const Mark& a, const Mark& b) {
        return a.combining_class < b.combining_class;
      });
      for (const Mark& mark : run) {
        sorted.replace(out, mark.num_bytes, text.substr(mark.begin, mark.num_bytes));
        out += mark.num_bytes;
      }
    }
    run.clear();
  };
  const icu::Normalizer2& nfc = Nfc9();
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = DecodeUtf8(text.data() + i);
    const uint8_t combining_class = nfc.getCombiningClass(static_cast<UChar32>(c.value));
    if (combining_class == 0) {
      end_run();
    } else {
      run.push_back({combining_class, i, c.num_bytes});
    }
    i += c.num_bytes;
  }
  end_run();
  return sorted;
}

}  // namespace

absl::StatusOr<Normalizer> Normalizer::FromJson(const nlohmann::json& normalizer) {
  Normalizer result;
  ABSL_ASSIGN_OR_RETURN(result.nfc_, UsesNfc(normalizer, "normalizer"));
  return result;
}

std::string_view Normalizer::Apply(std::string_view text, std::string* buffer) const {
  if (!nfc_ || IsBelowCombining(text)) return text;
  std::string_view ordered = text;
  std::string sorted;
  if (HasLongRunOfMarks(text)) ordered = sorted = SortLongRunsOfMarks(text);
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(error);
  // What is normalized today was so in Unicode 9.0, and today's test is the faster one.
  if (nfc->isNormalizedUTF8(ordered, error)) {
    if (sorted.empty()) return text;
    *buffer = std::move(sorted);
    return *buffer;
  }
  buffer->clear();
  icu::StringByteSink<std::string> sink(buffer, static_cast<int32_t>(ordered.size()));
  Nfc9().normalizeUTF8(0, ordered, sink, nullptr, error);
  CHECK(U_SUCCESS(error)) << "ICU's NFC failed: " << u_errorName(error);
  return *buffer;
}

}  // namespace lathe
