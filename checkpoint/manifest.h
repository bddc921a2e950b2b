#ifndef LATHE_CHECKPOINT_MANIFEST_H_
#define LATHE_CHECKPOINT_MANIFEST_H_

// lathe_manifest.json: the files of a checkpoint folder with their sizes and CRC-32C sums, written
// last. A folder is complete when it has one and every file fits.
//
//   {"files": {"model.safetensors": {"bytes": 1234, "crc32c": "89abcdef"}}, "version": 1}
//
//   ABSL_RETURN_IF_ERROR(VerifyManifest("out/checkpoint-100"));
//
// Thread rule: no shared state.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "absl/crc/crc32c.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lathe {

inline constexpr std::string_view kManifestName = "lathe_manifest.json";

struct ManifestFile {
  uint64_t bytes = 0;
  absl::crc32c_t crc32c{0};
};

using Manifest = std::map<std::string, ManifestFile, std::less<>>;

std::string ManifestJson(const Manifest& manifest);

// Errors: NotFound when the folder has no manifest; InvalidArgument when it is malformed, of a
// later version, or names a file outside the folder.
absl::StatusOr<Manifest> ReadManifest(const std::string& directory);

// Reads every file of the folder once. Files that the manifest does not name are ignored.
// Returns OK when all are as they were written.
// Errors: as ReadManifest; DataLoss as "DIRECTORY is damaged: FILE ...", naming each missing,
// resized or changed file (up to ten).
absl::Status VerifyManifest(const std::string& directory);

}  // namespace lathe

#endif  // LATHE_CHECKPOINT_MANIFEST_H_
