#include "lathe/checkpoint/safetensors_header.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "lathe/checkpoint/json_limits.h"
#include "lathe/checkpoint/posix_file.h"

namespace lathe {
namespace {

struct DtypeName {
  std::string_view name;
  at::ScalarType dtype;
};

// In the order of the reference implementation's enum, which is its sort order.
constexpr DtypeName kDtypes[] = {
    {"BOOL", at::ScalarType::Bool},
    {"U8", at::ScalarType::Byte},
    {"I8", at::ScalarType::Char},
    {"F8_E5M2", at::ScalarType::Float8_e5m2},
    {"F8_E4M3", at::ScalarType::Float8_e4m3fn},
    {"F8_E8M0", at::ScalarType::Float8_e8m0fnu},
    {"I16", at::ScalarType::Short},
    {"U16", at::ScalarType::UInt16},
    {"F16", at::ScalarType::Half},
    {"BF16", at::ScalarType::BFloat16},
    {"I32", at::ScalarType::Int},
    {"U32", at::ScalarType::UInt32},
    {"F32", at::ScalarType::Float},
    {"C64", at::ScalarType::ComplexFloat},
    {"F64", at::ScalarType::Double},
    {"I64", at::ScalarType::Long},
    {"U64", at::ScalarType::UInt64},
};

// Many times what anyone writes; it keeps a hostile header from filling memory with tiny entries.
constexpr size_t kMaxMetadataKeys = 10'000;

// PyTorch's iterators stop at 64 dims. It also keeps a hostile shape from filling memory.
constexpr size_t kMaxDims = 64;

// Bytes of a tensor. The product is also taken with empty dims counted as 1, because PyTorch
// computes strides that way and would overflow there.
std::optional<uint64_t> NumBytes(const std::vector<int64_t>& shape, at::ScalarType dtype) {
  int64_t product = static_cast<int64_t>(c10::elementSize(dtype));
  bool empty = false;
  for (const int64_t size : shape) {
    empty = empty || size == 0;
    if (__builtin_mul_overflow(product, std::max<int64_t>(size, 1), &product)) return std::nullopt;
  }
  return empty ? 0 : static_cast<uint64_t>(product);
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ","), "]");
}

class HeaderHandler : public JsonEvents {
 public:
  HeaderHandler(uint64_t data_bytes, SafetensorsHeader* header)
      : data_bytes_(data_bytes), header_(header) {}

  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::kStart:
        place_ = Place::kTop;
        return true;
      case Place::kTop:
        if (name_ == "__metadata__") {
          place_ = Place::kMetadata;
          return true;
        }
        place_ = Place::kTensor;
        field_ = Field::kNone;
        seen_ = 0;
        tensor_ = SafetensorsTensor{};
        offsets_.clear();
        return true;
      default:
        return Misplaced("an object");
    }
  }

  bool key(string_t& name) override {
    switch (place_) {
      case Place::kTop:
        name_ = std::move(name);
        if (name_ == "__metadata__" ? std::exchange(metadata_seen_, true)
                                    : header_->tensors.contains(name_)) {
          return Wrong("appears twice");
        }
        return true;
      case Place::kMetadata:
        metadata_key_ = std::move(name);
        if (header_->metadata.size() == kMaxMetadataKeys) {
          return Wrong(absl::StrCat("has more than ", kMaxMetadataKeys, " keys"));
        }
        if (header_->metadata.contains(metadata_key_)) {
          return Wrong(absl::StrCat("has the key '", Printable(metadata_key_), "' twice"));
        }
        return true;
      default:
        return TensorKey(name);
    }
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadata) {
      header_->metadata.emplace(std::move(metadata_key_), std::move(value));
      return true;
    }
    if (place_ != Place::kTensor || field_ != Field::kDtype) return Misplaced("a string");
    const std::optional<at::ScalarType> dtype = SafetensorsDtype(value);
    if (!dtype.has_value()) {
      const bool sub_byte = value == "F4" || absl::StartsWith(value, "F6_");
      return Wrong(absl::StrCat("has the ", sub_byte ? "unsupported sub-byte" : "unknown",
                                " dtype '", Printable(value), "', expected one of ",
                                KnownDtypes()));
    }
    tensor_.dtype = *dtype;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::kTensor) return Misplaced("an array");
    if (field_ != Field::kShape && field_ != Field::kOffsets) return Misplaced("an array");
    place_ = field_ == Field::kShape ? Place::kShape : Place::kOffsets;
    return true;
  }

  bool end_array() override {
    place_ = Place::kTensor;
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Wrong(absl::StrCat("has the number ", value, ", expected less than 2^63"));
    }
    if (place_ == Place::kShape) {
      if (tensor_.shape.size() == kMaxDims) return Wrong("has more than 64 dims");
      tensor_.shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (place_ == Place::kOffsets) {
      if (offsets_.size() == 2) return Wrong("has more than two data_offsets");
      offsets_.push_back(value);
      return true;
    }
    return Misplaced("a number");
  }

  bool number_integer(number_integer_t value) override {
    return Wrong(absl::StrCat("has the negative number ", value));
  }
  bool number_float(number_float_t, const string_t& text) override {
    return Wrong(
        absl::StrCat("has the number ", Printable(text), ", expected a whole number below 2^63"));
  }
  bool null() override { return Misplaced("null"); }
  bool boolean(bool) override { return Misplaced("true or false"); }

  bool end_object() override {
    if (place_ == Place::kTensor) return FinishTensor();
    place_ = Place::kTop;  // after the outermost '}' only white space can follow
    return true;
  }

 private:
  enum class Place { kStart, kTop, kMetadata, kTensor, kShape, kOffsets };
  enum class Field { kNone = 0, kDtype = 1, kShape = 2, kOffsets = 4 };

  bool Wrong(std::string_view what) {
    if (place_ == Place::kMetadata || name_ == "__metadata__") {
      return Refuse(absl::StrCat("__metadata__ ", what));
    }
    if (place_ == Place::kStart) return Refuse(absl::StrCat("the header ", what));
    return Refuse(absl::StrCat("tensor '", Printable(name_), "' ", what));
  }

  bool Misplaced(std::string_view kind) {
    switch (place_) {
      case Place::kStart:
        return Refuse(absl::StrCat("the header is ", kind, ", expected an object"));
      case Place::kTop:
        return Wrong(absl::StrCat("is ", kind, ", expected an object"));
      case Place::kMetadata:
        return Wrong(absl::StrCat("has ", kind, " under '", Printable(metadata_key_),
                                  "', expected strings only"));
      case Place::kShape:
        return Wrong(absl::StrCat("has ", kind, " in its shape, expected whole numbers"));
      case Place::kOffsets:
        return Wrong(
            absl::StrCat("has ", kind, " in its data_offsets, expected two whole numbers"));
      case Place::kTensor:
        break;
    }
    const std::string_view field = field_ == Field::kDtype   ? "dtype"
                                   : field_ == Field::kShape ? "shape"
                                                             : "data_offsets";
    return Wrong(absl::StrCat("has ", kind, " as its ", field));
  }

  bool TensorKey(std::string_view name) {
    field_ = name == "dtype"          ? Field::kDtype
             : name == "shape"        ? Field::kShape
             : name == "data_offsets" ? Field::kOffsets
                                      : Field::kNone;
    if (field_ == Field::kNone) {
      return Wrong(absl::StrCat("has the unknown key '", Printable(name),
                                "', expected dtype, shape and data_offsets"));
    }
    if ((seen_ & static_cast<int>(field_)) != 0) return Wrong(absl::StrCat("has two ", name, "s"));
    seen_ |= static_cast<int>(field_);
    return true;
  }

  bool FinishTensor() {
    place_ = Place::kTop;
    if (seen_ != 7) {
      return Wrong(absl::StrCat("has no ", (seen_ & 1) == 0   ? "dtype"
                                           : (seen_ & 2) == 0 ? "shape"
                                                              : "data_offsets"));
    }
    if (offsets_.size() != 2) {
      return Wrong(absl::StrCat("has ", offsets_.size(), " data_offsets, expected two"));
    }
    const auto [begin, end] = std::pair(offsets_[0], offsets_[1]);
    if (end < begin) {
      return Wrong(absl::StrCat("has reversed data_offsets [", begin, ",", end, "]"));
    }
    if (end > data_bytes_) {
      return Wrong(absl::StrCat("ends at data byte ", end, ", past the ", data_bytes_,
                                " bytes of data in the file"));
    }
    const std::optional<uint64_t> expected = NumBytes(tensor_.shape, tensor_.dtype);
    if (!expected.has_value()) {
      return Wrong(absl::StrCat("has the shape ", ShapeText(tensor_.shape),
                                ", whose size in bytes overflows"));
    }
    if (end - begin != *expected) {
      return Wrong(absl::StrCat(
          "has data_offsets [", begin, ",", end, "], which is ", end - begin, " bytes, expected ",
          *expected, " for ", *SafetensorsDtypeName(tensor_.dtype), " ", ShapeText(tensor_.shape)));
    }
    // More bytes claimed than there are means an overlap; noticing it at once keeps a header of
    // millions of tensors on one range from filling memory.
    claimed_bytes_ += end - begin;
    if (claimed_bytes_ > data_bytes_) return Wrong("overlaps tensors before it");
    tensor_.offset = begin;
    tensor_.num_bytes = end - begin;
    header_->tensors.emplace(std::move(name_), std::move(tensor_));
    return true;
  }

  static std::string KnownDtypes() {
    return absl::StrJoin(kDtypes, ", ", [](std::string* out, const DtypeName& dtype) {
      absl::StrAppend(out, dtype.name);
    });
  }

  const uint64_t data_bytes_;
  SafetensorsHeader* const header_;
  Place place_ = Place::kStart;
  Field field_ = Field::kNone;
  int seen_ = 0;  // fields of the present tensor, as a set
  bool metadata_seen_ = false;
  uint64_t claimed_bytes_ = 0;
  std::string name_;
  std::string metadata_key_;
  SafetensorsTensor tensor_;
  std::vector<uint64_t> offsets_;
};

// Every data byte belongs to exactly one tensor.
absl::Status CheckTiling(const SafetensorsTensors& tensors, uint64_t data_bytes) {
  std::vector<const SafetensorsTensors::value_type*> order;
  order.reserve(tensors.size());
  for (const auto& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.offset, a->second.num_bytes) <
           std::pair(b->second.offset, b->second.num_bytes);
  });
  uint64_t position = 0;
  std::string_view previous;
  for (const auto* tensor : order) {
    const auto& [name, range] = *tensor;
    if (range.offset < position) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor '", Printable(name), "' at data byte ", range.offset,
                       " overlaps tensor '", Printable(previous), "', which ends at ", position));
    }
    if (range.offset > position) {
      return absl::InvalidArgumentError(absl::StrCat("the data bytes ", position, " to ",
                                                     range.offset, " before tensor '",
                                                     Printable(name), "' belong to no tensor"));
    }
    position += range.num_bytes;
    previous = name;
  }
  if (position != data_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the last ", data_bytes - position, " bytes of the file belong to no tensor"));
  }
  return absl::OkStatus();
}

}  // namespace

std::optional<std::string_view> SafetensorsDtypeName(at::ScalarType dtype) {
  for (const DtypeName& known : kDtypes) {
    if (known.dtype == dtype) return known.name;
  }
  return std::nullopt;
}

std::optional<at::ScalarType> SafetensorsDtype(std::string_view name) {
  for (const DtypeName& known : kDtypes) {
    if (known.name == name) return known.dtype;
  }
  return std::nullopt;
}

int SafetensorsDtypeOrder(at::ScalarType dtype) {
  for (const DtypeName& known : kDtypes) {
    if (known.dtype == dtype) return static_cast<int>(&known - kDtypes);
  }
  return -1;
}

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json,
                                                         uint64_t data_bytes) {
  if (json.empty() || json.front() != '{') {
    return absl::InvalidArgumentError("the header does not start with '{'");
  }
  SafetensorsHeader header;
  HeaderHandler handler(data_bytes, &header);
  ABSL_RETURN_IF_ERROR(ParseJson(json, handler));
  ABSL_RETURN_IF_ERROR(CheckTiling(header.tensors, data_bytes));
  return header;
}

}  // namespace lathe
