#include "lathe/checkpoint/manifest.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status_macros.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "lathe/checkpoint/json_limits.h"
#include "lathe/checkpoint/posix_file.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

constexpr uint64_t kVersion = 1;
constexpr uint64_t kMaxManifestBytes = 10'000'000;

class ManifestHandler : public JsonEvents {
 public:
  Manifest files;

  bool start_object(std::size_t) override {
    ++depth_;
    if (depth_ == 1) return true;
    if (depth_ == 2 && section_ == "files") return true;
    if (depth_ == 3) {
      bytes_.reset();
      crc_.reset();
      return true;
    }
    return Refuse("an object is not expected there");
  }

  bool key(string_t& name) override {
    if (depth_ == 1) {
      section_ = std::move(name);
      if (section_ == "files" || section_ == "version") return true;
      return Refuse(absl::StrCat("unknown key '", Printable(section_), "'"));
    }
    if (depth_ == 3) {
      field_ = std::move(name);
      return true;
    }
    file_ = std::move(name);
    if (!IsPlainFileName(file_)) {
      return Refuse(absl::StrCat("'", Printable(file_), "' is not a plain file name"));
    }
    return !files.contains(file_) || Refuse(absl::StrCat("'", Printable(file_), "' appears twice"));
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (depth_ == 1 && section_ == "version") {
      version_ = value;
      return value == kVersion ||
             Refuse(absl::StrCat("it has version ", value, ", expected ", kVersion));
    }
    if (depth_ != 3 || field_ != "bytes") return Refuse("a number is not expected there");
    bytes_ = value;
    return true;
  }

  bool string(string_t& value) override {
    uint32_t crc;
    if (depth_ != 3 || field_ != "crc32c" || value.size() != 8 ||
        !absl::SimpleHexAtoi(value, &crc)) {
      return Refuse(absl::StrCat("'", Printable(value), "' is not a checksum"));
    }
    crc_ = absl::crc32c_t{crc};
    return true;
  }

  bool end_object() override {
    --depth_;
    if (depth_ == 0) {
      if (version_ != kVersion) return Refuse("it has no version");
      if (files.empty()) return Refuse("it names no files");
    }
    if (depth_ != 2) return true;
    if (!bytes_.has_value() || !crc_.has_value()) {
      return Refuse(absl::StrCat("'", Printable(file_), "' has no bytes or no crc32c"));
    }
    files.emplace(std::move(file_), ManifestFile{*bytes_, *crc_});
    return true;
  }

 private:
  int depth_ = 0;
  uint64_t version_ = 0;
  std::string section_;
  std::string file_;
  std::string field_;
  std::optional<uint64_t> bytes_;
  std::optional<absl::crc32c_t> crc_;
};

// OK, or what is wrong with one file, starting with its name.
absl::Status VerifyFile(const std::string& directory, const std::string& name,
                        const ManifestFile& expected, absl::Span<char> buffer) {
  absl::StatusOr<PosixFile> file = PosixFile::OpenForReading(JoinPath(directory, name));
  if (absl::IsNotFound(file.status()))
    return absl::DataLossError(absl::StrCat(name, " is missing"));
  ABSL_RETURN_IF_ERROR(file.status());
  ABSL_ASSIGN_OR_RETURN(const uint64_t bytes, file->Size());
  if (bytes != expected.bytes) {
    return absl::DataLossError(
        absl::StrCat(name, " has ", bytes, " bytes, expected ", expected.bytes));
  }
  absl::crc32c_t crc{0};
  for (uint64_t offset = 0; offset < bytes; offset += buffer.size()) {
    const absl::Span<char> part = buffer.first(std::min<uint64_t>(buffer.size(), bytes - offset));
    ABSL_RETURN_IF_ERROR(file->ReadAt(offset, part));
    crc = absl::ExtendCrc32c(crc, std::string_view(part.data(), part.size()));
  }
  if (crc != expected.crc32c) {
    return absl::DataLossError(
        absl::StrCat(name, " has checksum ", crc, ", expected ", expected.crc32c));
  }
  return absl::OkStatus();
}

}  // namespace

std::string ManifestJson(const Manifest& manifest) {
  nlohmann::json files = nlohmann::json::object();
  for (const auto& [name, file] : manifest) {
    files[name] = {{"bytes", file.bytes}, {"crc32c", absl::StrCat(file.crc32c)}};
  }
  const nlohmann::json document = {{"files", std::move(files)}, {"version", kVersion}};
  return document.dump(2) + "\n";
}

absl::StatusOr<Manifest> ReadManifest(const std::string& directory) {
  const std::string path = JoinPath(directory, kManifestName);
  ABSL_ASSIGN_OR_RETURN(const std::string json, ReadSmallFile(path, kMaxManifestBytes));
  ManifestHandler handler;
  const absl::Status parsed = ParseJson(json, handler);
  if (!parsed.ok()) return absl::Status(parsed.code(), absl::StrCat(path, ": ", parsed.message()));
  return std::move(handler.files);
}

absl::Status VerifyManifest(const std::string& directory) {
  constexpr size_t kBufferBytes = size_t{1} << 20;
  constexpr size_t kMaxNamed = 10;
  ABSL_ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(directory));
  const auto buffer = std::make_unique_for_overwrite<char[]>(kBufferBytes);
  std::vector<std::string> faults;
  for (const auto& [name, file] : manifest) {
    const absl::Status status =
        VerifyFile(directory, name, file, absl::MakeSpan(buffer.get(), kBufferBytes));
    if (!status.ok()) faults.emplace_back(status.message());
  }
  if (faults.empty()) return absl::OkStatus();
  const size_t num_more = faults.size() - std::min(faults.size(), kMaxNamed);
  faults.resize(faults.size() - num_more);
  return absl::DataLossError(
      absl::StrCat(directory, " is damaged: ", absl::StrJoin(faults, "; "),
                   num_more == 0 ? "" : absl::StrCat("; and ", num_more, " more files")));
}

}  // namespace lathe
