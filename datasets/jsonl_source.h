#ifndef LATHE_DATASETS_JSONL_SOURCE_H_
#define LATHE_DATASETS_JSONL_SOURCE_H_

// JsonlSource: the documents of JSONL files, each by its index. A line is a JSON object, and one of
// its fields (the text column) is the document.
//
//   ABSL_ASSIGN_OR_RETURN(JsonlSource source, JsonlSource::Open({"a.jsonl", "b.jsonl"}, {}));
//   for (int64_t i = 0; i < source.size(); ++i) {
//     ABSL_ASSIGN_OR_RETURN(std::string text, source.Text(i));
//   }
//
// Documents are numbered in the order of files and lines; empty lines are none, as for Hugging
// Face's datasets. Nothing but the places of the lines is kept, 12 bytes for each, so files may be
// larger than memory. They must not change while the source lives: a line that is cut short then is
// an error, not a crash.
//
// Immutable after Open: any number of threads may read at once.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lathe {

// What a line does that is no JSON object, no UTF-8, longer than max_line_bytes, or has no string
// in the text column.
enum class OnBadRecord {
  kFail,  // An error that names file and line.
  kSkip,  // It is no document, and counted.
};

struct JsonlOptions {
  std::string text_column = "text";  // "": the document is the whole line, whatever is in it
  OnBadRecord on_bad_record = OnBadRecord::kFail;
  int64_t max_line_bytes = int64_t{1} << 30;
};

class JsonlSource {
 public:
  // Finds the lines of `files`, whose names end in .jsonl or .json. Under kSkip each line is also
  // parsed, so that size() counts the good ones only; under kFail a bad line shows when Text reads
  // it. Errors: NotFound for a missing file; InvalidArgument for no files, another kind of file (a
  // folder, a compressed one, one JSON array, another ending), a line that is too long, or when
  // there is no document in any of the files; the system's own code when reading fails.
  static absl::StatusOr<JsonlSource> Open(const std::vector<std::string>& files,
                                          const JsonlOptions& options);

  JsonlSource(JsonlSource&&) = default;
  JsonlSource& operator=(JsonlSource&&) = default;

  // The number of documents.
  int64_t size() const { return static_cast<int64_t>(lengths_.size()); }

  // The lines that kSkip left out.
  int64_t num_skipped() const { return num_skipped_; }

  // The bytes of all documents' lines: what progress may be measured in.
  int64_t num_bytes() const { return num_bytes_; }

  // Document `index` of [0, size()), which may be empty. Errors: InvalidArgument with
  // "FILE:LINE: what was found and what was expected"; DataLoss when the file was cut short after
  // Open.
  absl::StatusOr<std::string> Text(int64_t index) const;

  // "FILE:LINE" of document `index`, for messages. Reads the file up to that line.
  std::string Where(int64_t index) const;

 private:
  class File;

  explicit JsonlSource(const JsonlOptions& options);
  absl::Status AddFile(const std::string& path);
  absl::Status AddLine(const File& file, int64_t begin, int64_t length, int64_t line);
  const File& FileOf(int64_t index) const;

  JsonlOptions options_;
  std::vector<std::shared_ptr<const File>> files_;
  std::vector<int64_t> offsets_;   // of each document's line in its file
  std::vector<uint32_t> lengths_;  // of that line in bytes
  int64_t num_bytes_ = 0;
  int64_t num_skipped_ = 0;
};

}  // namespace lathe

#endif  // LATHE_DATASETS_JSONL_SOURCE_H_
