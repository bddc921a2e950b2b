#include "lathe/base/python_json.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <string_view>

#include "absl/log/absl_check.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace lathe {
namespace {

void AppendEscape(uint32_t unit, std::string& out) { absl::StrAppendFormat(&out, "\\u%04x", unit); }

// Decodes the code point at text[at], which nlohmann's parser has already found to be valid UTF-8,
// and moves `at` behind it. A byte that starts no sequence becomes U+FFFD.
uint32_t NextCodePoint(std::string_view text, size_t& at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(at);
  if (lead < 0x80) return text[at++];
  const size_t extra = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
  if (extra == 0 || at + extra >= text.size()) {
    ++at;
    return 0xfffd;
  }
  uint32_t point = lead & (0x3f >> extra);
  for (size_t i = 1; i <= extra; ++i) point = (point << 6) | (byte(at + i) & 0x3f);
  at += extra + 1;
  return point;
}

void AppendString(std::string_view text, std::string& out) {
  out += '"';
  for (size_t at = 0; at < text.size();) {
    const uint32_t point = NextCodePoint(text, at);
    switch (point) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\b':
        out += "\\b";
        break;
      default:
        if (point >= 0x10000) {
          AppendEscape(0xd800 + ((point - 0x10000) >> 10), out);
          AppendEscape(0xdc00 + ((point - 0x10000) & 0x3ff), out);
        } else if (point < 0x20 || point > 0x7e) {
          AppendEscape(point, out);
        } else {
          out += static_cast<char>(point);
        }
    }
  }
  out += '"';
}

template <typename Json>
class Writer {
 public:
  Writer(int indent, std::string& out) : indent_(indent), out_(out) {}

  void Write(const Json& value, int depth) {
    switch (value.type()) {
      case Json::value_t::object:
        return WriteObject(value, depth);
      case Json::value_t::array:
        return WriteArray(value, depth);
      case Json::value_t::string:
        return AppendString(value.template get_ref<const std::string&>(), out_);
      case Json::value_t::boolean:
        out_ += value.template get<bool>() ? "true" : "false";
        return;
      case Json::value_t::number_integer:
        absl::StrAppend(&out_, value.template get<int64_t>());
        return;
      case Json::value_t::number_unsigned:
        absl::StrAppend(&out_, value.template get<uint64_t>());
        return;
      case Json::value_t::number_float:
        return WriteFloat(value.template get<double>());
      default:
        out_ += "null";
    }
  }

 private:
  void WriteFloat(double value) {
    if (std::isnan(value)) {
      out_ += "NaN";
    } else if (std::isinf(value)) {
      out_ += value < 0 ? "-Infinity" : "Infinity";
    } else {
      out_ += PythonFloat(value);
    }
  }

  void WriteObject(const Json& value, int depth) {
    if (value.empty()) {
      out_ += "{}";
      return;
    }
    out_ += '{';
    bool first = true;
    for (auto it = value.begin(); it != value.end(); ++it) {
      Separate(first, depth + 1);
      AppendString(it.key(), out_);
      out_ += ": ";
      Write(it.value(), depth + 1);
      first = false;
    }
    EndLine(depth);
    out_ += '}';
  }

  void WriteArray(const Json& value, int depth) {
    if (value.empty()) {
      out_ += "[]";
      return;
    }
    out_ += '[';
    bool first = true;
    for (const Json& element : value) {
      Separate(first, depth + 1);
      Write(element, depth + 1);
      first = false;
    }
    EndLine(depth);
    out_ += ']';
  }

  void Separate(bool first, int depth) {
    if (!first) out_ += indent_ < 0 ? ", " : ",";
    EndLine(depth);
  }

  void EndLine(int depth) {
    if (indent_ < 0) return;
    out_ += '\n';
    out_.append(static_cast<size_t>(indent_) * depth, ' ');
  }

  const int indent_;
  std::string& out_;
};

}  // namespace

std::string PythonFloat(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  // Shortest round-trip digits as d.ddde±xx, then laid out by Python's rule: plain notation for
  // decimal exponents from -4 to 15, scientific beyond.
  char buffer[64];
  const auto result =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific);
  ABSL_CHECK(result.ec == std::errc());
  std::string_view text(buffer, result.ptr - buffer);
  std::string sign;
  if (text.front() == '-') {
    sign = "-";
    text.remove_prefix(1);
  }
  const size_t e = text.find('e');
  int exponent = 0;
  // from_chars takes no '+'.
  std::string_view exponent_text = text.substr(e + 1);
  if (exponent_text.front() == '+') exponent_text.remove_prefix(1);
  std::from_chars(exponent_text.data(), exponent_text.data() + exponent_text.size(), exponent);
  std::string digits(1, text[0]);
  if (e > 2) digits += text.substr(2, e - 2);
  const int count = static_cast<int>(digits.size());

  if (exponent < -4 || exponent >= 16) {
    return absl::StrFormat("%s%s%s%se%c%02d", sign, digits.substr(0, 1), count > 1 ? "." : "",
                           digits.substr(1), exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) {
    return absl::StrCat(sign, "0.", std::string(-exponent - 1, '0'), digits);
  }
  if (count <= exponent + 1) {
    return absl::StrCat(sign, digits, std::string(exponent + 1 - count, '0'), ".0");
  }
  return absl::StrCat(sign, digits.substr(0, exponent + 1), ".", digits.substr(exponent + 1));
}

std::string DumpPythonJson(const nlohmann::json& value, int indent) {
  std::string out;
  Writer<nlohmann::json>(indent, out).Write(value, 0);
  return out;
}

std::string DumpPythonJson(const nlohmann::ordered_json& value, int indent) {
  std::string out;
  Writer<nlohmann::ordered_json>(indent, out).Write(value, 0);
  return out;
}

}  // namespace lathe
