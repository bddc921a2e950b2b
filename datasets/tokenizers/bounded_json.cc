#include "lathe/datasets/tokenizers/bounded_json.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"

namespace lathe {
namespace {

constexpr size_t kMaxBytes = 16 << 20;
constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxValues = 1'000'000;

}  // namespace

absl::StatusOr<std::string> ReadBoundedFile(const std::string& path, size_t max_bytes) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    const std::string reason = absl::StrCat(path, ": ", std::strerror(errno));
    return errno == ENOENT ? absl::NotFoundError(reason) : absl::FailedPreconditionError(reason);
  }
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": not a regular file"));
  }
  const auto size = static_cast<size_t>(info.st_size);
  if (size > max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path, ": ", size, " bytes; at most ", max_bytes, " are supported"));
  }
  std::string content(size, '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::FailedPreconditionError(absl::StrCat(path, ": ", std::strerror(errno)));
  file.read(content.data(), static_cast<std::streamsize>(size));
  if (static_cast<size_t>(file.gcount()) != size) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": only ", file.gcount(), " of ", size, " bytes could be read"));
  }
  // JSON's parser takes a NUL for the end of the text.
  if (const size_t nul = content.find('\0'); nul != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": not valid JSON: a NUL byte at byte ", nul + 1));
  }
  return content;
}

absl::StatusOr<nlohmann::json> ReadBoundedJson(const std::string& path) {
  ABSL_ASSIGN_OR_RETURN(const std::string content, ReadBoundedFile(path, kMaxBytes));
  BoundedJsonBuilder builder;
  nlohmann::json::sax_parse(content, &builder);
  if (!builder.status().ok()) {
    return absl::Status(builder.status().code(),
                        absl::StrCat(path, ": ", builder.status().message()));
  }
  return std::move(builder.root());
}

bool BoundedJsonBuilder::Fail(const std::string& message) {
  if (status_.ok()) status_ = absl::InvalidArgumentError(message);
  return false;
}

nlohmann::json* BoundedJsonBuilder::Add(nlohmann::json value) {
  if (++num_values_ > kMaxValues) {
    Fail(absl::StrCat("more than ", kMaxValues, " values"));
    return nullptr;
  }
  if (open_.empty()) {
    root_ = std::move(value);
    return &root_;
  }
  if (open_.back()->is_array()) {
    open_.back()->push_back(std::move(value));
    return &open_.back()->back();
  }
  nlohmann::json& member = (*open_.back())[last_key_];
  member = std::move(value);
  return &member;
}

bool BoundedJsonBuilder::key(string_t& value) {
  last_key_ = std::move(value);
  return true;
}

bool BoundedJsonBuilder::Open(nlohmann::json container) {
  if (open_.size() == kMaxDepth)
    return Fail(absl::StrCat("nested deeper than ", kMaxDepth, " levels"));
  nlohmann::json* added = Add(std::move(container));
  if (added == nullptr) return false;
  open_.push_back(added);
  return true;
}

bool BoundedJsonBuilder::Close() {
  open_.pop_back();
  return true;
}

bool BoundedJsonBuilder::parse_error(size_t, const std::string&,
                                     const nlohmann::json::exception& error) {
  // nlohmann's text begins with "[json.exception.parse_error.101] "; what follows has line and
  // column.
  std::string text = error.what();
  if (const size_t bracket = text.find("] "); bracket != std::string::npos)
    text = text.substr(bracket + 2);
  if (text.size() > 300) text = absl::StrCat(text.substr(0, 297), "...");
  return Fail(absl::StrCat("not valid JSON: ", text));
}

}  // namespace lathe
