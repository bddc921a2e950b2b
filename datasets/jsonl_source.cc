#include "lathe/datasets/jsonl_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "lathe/base/beacon.h"
#include "lathe/datasets/text_column.h"

namespace lathe {
namespace {

constexpr size_t kReadBytes = size_t{1} << 20;

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

}  // namespace

// An open file, read by offset, so that threads do not share a position. Not memory-mapped: a
// mapped file that somebody cuts short ends the process by a signal.
class JsonlSource::File {
 public:
  static absl::StatusOr<std::shared_ptr<File>> Open(const std::string& path) {
    // Not blocking: a named pipe that nobody writes to is refused below, not waited for.
    const int descriptor = open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot be opened"));
    }
    auto file = std::shared_ptr<File>(new File(path, descriptor));
    struct stat status;
    if (fstat(descriptor, &status) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot be examined"));
    }
    if (!S_ISREG(status.st_mode)) {
      return absl::InvalidArgumentError(absl::StrCat(
          path, S_ISDIR(status.st_mode) ? ": is a folder; name the .jsonl files in it"
                                        : ": is no regular file, which a data file must be"));
    }
    return file;
  }

  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { close(descriptor_); }

  const std::string& path() const { return path_; }

  // Up to `size` bytes from `offset` on; fewer only at the end of the file.
  absl::StatusOr<size_t> Read(int64_t offset, char* data, size_t size) const {
    size_t done = 0;
    while (done < size) {
      const ssize_t got =
          pread(descriptor_, data + done, size - done, offset + static_cast<int64_t>(done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return absl::ErrnoToStatus(errno, absl::StrCat(path_, ": cannot be read"));
      if (got == 0) break;
      done += static_cast<size_t>(got);
    }
    return done;
  }

  // Calls `each(offset, length, line_number)` for every line that is not blank, without its line
  // break. Lines count from 1.
  absl::Status ForEachLine(absl::FunctionRef<absl::Status(int64_t, int64_t, int64_t)> each) const {
    std::vector<char> buffer(kReadBytes);
    int64_t offset = 0;      // of the buffer in the file
    int64_t line = 1;        // its number
    int64_t line_begin = 0;  // where it begins in the file
    bool blank = true;       // so far
    for (;;) {
      ABSL_ASSIGN_OR_RETURN(const size_t size, Read(offset, buffer.data(), buffer.size()));
      GiveSign();
      const char* const end = buffer.data() + size;
      for (const char* p = buffer.data(); p < end;) {
        const void* found = memchr(p, '\n', static_cast<size_t>(end - p));
        const char* const stop = found != nullptr ? static_cast<const char*>(found) : end;
        if (blank) blank = std::all_of(p, stop, IsSpace);
        if (found == nullptr) break;
        const int64_t line_end = offset + (stop - buffer.data());
        if (!blank) {
          ABSL_RETURN_IF_ERROR(each(line_begin, line_end - line_begin, line));
        }
        line_begin = line_end + 1;
        ++line;
        blank = true;
        p = stop + 1;
      }
      offset += static_cast<int64_t>(size);
      if (size < buffer.size()) break;
    }
    if (!blank) return each(line_begin, offset - line_begin, line);
    return absl::OkStatus();
  }

  // The number of the line that begins at `offset`, or 0 when the file cannot be read any more.
  int64_t LineAt(int64_t offset) const {
    std::vector<char> buffer(kReadBytes);
    int64_t line = 1;
    for (int64_t at = 0; at < offset;) {
      const size_t want = std::min<int64_t>(kReadBytes, offset - at);
      const absl::StatusOr<size_t> size = Read(at, buffer.data(), want);
      if (!size.ok() || *size == 0) return 0;
      line += std::count(buffer.data(), buffer.data() + *size, '\n');
      at += static_cast<int64_t>(*size);
    }
    return line;
  }

  // The index of its first document.
  int64_t first_document = 0;

 private:
  File(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}

  const std::string path_;
  const int descriptor_;
};

namespace {

// Says which other kind of file this is, from its name and its first bytes.
absl::Status CheckKind(const std::string& path, std::string_view head) {
  if (!absl::EndsWithIgnoreCase(path, ".jsonl") && !absl::EndsWithIgnoreCase(path, ".json")) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": a data file's name must end in .jsonl or .json, one object per line"));
  }
  if (absl::StartsWith(head, "\x1f\x8b") || absl::StartsWith(head, "\x28\xb5\x2f\xfd") ||
      absl::StartsWith(head, "BZh") || absl::StartsWith(head, "PK\x03\x04") ||
      absl::StartsWith(head,
                       "\xfd"
                       "7zXZ")) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is a compressed file; unpack it first"));
  }
  if (absl::StartsWith(head, "\xff\xfe") || absl::StartsWith(head, "\xfe\xff")) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is UTF-16 text; UTF-8 is expected"));
  }
  if (absl::StartsWith(head, "\xef\xbb\xbf")) head.remove_prefix(3);
  while (!head.empty() && IsSpace(head.front())) head.remove_prefix(1);
  if (absl::StartsWith(head, "[")) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is a JSON array; one object per line is expected (jq -c '.[]' ", path,
                     " makes such a file)"));
  }
  return absl::OkStatus();
}

}  // namespace

JsonlSource::JsonlSource(const JsonlOptions& options) : options_(options) {
  options_.max_line_bytes = std::clamp<int64_t>(options.max_line_bytes, 1, UINT32_MAX);
}

absl::StatusOr<JsonlSource> JsonlSource::Open(const std::vector<std::string>& files,
                                              const JsonlOptions& options) {
  if (files.empty()) return absl::InvalidArgumentError("no data files are given");
  JsonlSource source(options);
  for (const std::string& path : files) ABSL_RETURN_IF_ERROR(source.AddFile(path));
  if (source.size() == 0) {
    std::string names = files.front();
    if (files.size() > 1) absl::StrAppend(&names, " and ", files.size() - 1, " more");
    return absl::InvalidArgumentError(absl::StrCat(
        names, ": the data set is empty: no document in it",
        source.num_skipped_ > 0
            ? absl::StrCat(", and ", source.num_skipped_, " bad lines, which were skipped")
            : std::string()));
  }
  return source;
}

absl::Status JsonlSource::AddFile(const std::string& path) {
  ABSL_ASSIGN_OR_RETURN(std::shared_ptr<File> file, File::Open(path));
  char head[64];
  ABSL_ASSIGN_OR_RETURN(const size_t head_size, file->Read(0, head, sizeof(head)));
  ABSL_RETURN_IF_ERROR(CheckKind(path, std::string_view(head, head_size)));
  file->first_document = size();
  files_.push_back(file);
  return file->ForEachLine([&](int64_t offset, int64_t length, int64_t line) {
    return AddLine(*file, offset, length, line);
  });
}

absl::Status JsonlSource::AddLine(const File& file, int64_t offset, int64_t length, int64_t line) {
  const bool skip = options_.on_bad_record == OnBadRecord::kSkip;
  if (length > options_.max_line_bytes) {
    if (!skip) {
      return absl::InvalidArgumentError(absl::StrCat(file.path(), ":", line, ": the line has ",
                                                     length, " bytes; at most ",
                                                     options_.max_line_bytes, " are read"));
    }
    ++num_skipped_;
    return absl::OkStatus();
  }
  offsets_.push_back(offset);
  lengths_.push_back(static_cast<uint32_t>(length));
  if (skip) {
    const absl::Status status = Text(size() - 1).status();
    if (absl::IsInvalidArgument(status)) {
      offsets_.pop_back();
      lengths_.pop_back();
      ++num_skipped_;
      return absl::OkStatus();
    }
    ABSL_RETURN_IF_ERROR(status);
  }
  num_bytes_ += length;
  return absl::OkStatus();
}

const JsonlSource::File& JsonlSource::FileOf(int64_t index) const {
  const auto after = std::upper_bound(
      files_.begin(), files_.end(), index,
      [](int64_t i, const std::shared_ptr<const File>& file) { return i < file->first_document; });
  return **std::prev(after);
}

absl::StatusOr<std::string> JsonlSource::Text(int64_t index) const {
  const File& file = FileOf(index);
  std::string line(lengths_[index], '\0');
  ABSL_ASSIGN_OR_RETURN(const size_t size, file.Read(offsets_[index], line.data(), line.size()));
  if (size < line.size()) {
    return absl::DataLossError(absl::StrCat(file.path(), ": was cut short while it was read"));
  }
  if (options_.text_column.empty()) return line;
  absl::StatusOr<std::string> text = ReadTextColumn(line, options_.text_column);
  // Where() reads the file: under kSkip nobody sees the message.
  if (text.ok() || options_.on_bad_record == OnBadRecord::kSkip) return text;
  return absl::InvalidArgumentError(absl::StrCat(Where(index), ": ", text.status().message()));
}

std::string JsonlSource::Where(int64_t index) const {
  const File& file = FileOf(index);
  const int64_t line = file.LineAt(offsets_[index]);
  return line > 0 ? absl::StrCat(file.path(), ":", line) : file.path();
}

}  // namespace lathe
