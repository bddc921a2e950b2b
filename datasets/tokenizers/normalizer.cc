#include "lathe/datasets/tokenizers/normalizer.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uniset.h>

#include "absl/log/check.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/datasets/tokenizers/json_fields.h"

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

}  // namespace

absl::StatusOr<Normalizer> Normalizer::FromJson(const nlohmann::json& normalizer) {
  Normalizer result;
  ABSL_ASSIGN_OR_RETURN(result.nfc_, UsesNfc(normalizer, "normalizer"));
  return result;
}

std::string_view Normalizer::Apply(std::string_view text, std::string* buffer) const {
  if (!nfc_ || IsBelowCombining(text)) return text;
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(error);
  const icu::StringPiece piece(text.data(), static_cast<int32_t>(text.size()));
  // What is normalized today was so in Unicode 9.0, and today's test is the faster one.
  if (nfc->isNormalizedUTF8(piece, error)) return text;
  buffer->clear();
  icu::StringByteSink<std::string> sink(buffer, static_cast<int32_t>(text.size()));
  Nfc9().normalizeUTF8(0, piece, sink, nullptr, error);
  CHECK(U_SUCCESS(error)) << "ICU's NFC failed: " << u_errorName(error);
  return *buffer;
}

}  // namespace lathe
