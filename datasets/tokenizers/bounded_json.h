// JSON files of unknown origin: read with limits on size, depth and number of values, so that a
// hostile file costs an error and not the machine's memory.
//
// Example:
//   ABSL_ASSIGN_OR_RETURN(nlohmann::json config, ReadBoundedJson("model/tokenizer_config.json"));
#ifndef LATHE_DATASETS_TOKENIZERS_BOUNDED_JSON_H_
#define LATHE_DATASETS_TOKENIZERS_BOUNDED_JSON_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace lathe {

// The whole of a regular file.
// Errors: NotFound, FailedPrecondition (not a regular file, or not readable), ResourceExhausted
// (larger than `max_bytes`); each names the file.
absl::StatusOr<std::string> ReadBoundedFile(const std::string& path, size_t max_bytes);

// Parses `path`: at most 16 MiB, 64 levels deep, a million values.
// Errors: those of ReadBoundedFile; InvalidArgument when it is not JSON, with the line and column.
absl::StatusOr<nlohmann::json> ReadBoundedJson(const std::string& path);

// Builds a JSON value from nlohmann's events and stops at a limit. A class that wants to keep some
// part of a file in its own way overrides the events and passes on the rest (tokenizer_json.cc).
class BoundedJsonBuilder : public nlohmann::json::json_sax_t {
 public:
  bool null() override { return AddScalar(nullptr); }
  bool boolean(bool value) override { return AddScalar(value); }
  bool number_integer(number_integer_t value) override { return AddScalar(value); }
  bool number_unsigned(number_unsigned_t value) override { return AddScalar(value); }
  bool number_float(number_float_t value, const string_t&) override { return AddScalar(value); }
  bool string(string_t& value) override { return AddScalar(std::move(value)); }
  bool binary(binary_t&) override { return Fail("binary values are not JSON"); }
  bool start_object(size_t) override { return Open(nlohmann::json::object()); }
  bool key(string_t& value) override;
  bool end_object() override { return Close(); }
  bool start_array(size_t) override { return Open(nlohmann::json::array()); }
  bool end_array() override { return Close(); }
  bool parse_error(size_t position, const std::string& last_token,
                   const nlohmann::json::exception& error) override;

  // After the parse: the first error, or what was built.
  const absl::Status& status() const { return status_; }
  nlohmann::json& root() { return root_; }

 protected:
  // Ends the parse with InvalidArgument(`message`); returns false for the event to return.
  bool Fail(const std::string& message);

  // How many objects and arrays are open, and the last key seen in the innermost object.
  size_t depth() const { return open_.size(); }
  const std::string& last_key() const { return last_key_; }

 private:
  bool AddScalar(nlohmann::json value) { return Add(std::move(value)) != nullptr; }
  nlohmann::json* Add(nlohmann::json value);
  bool Open(nlohmann::json container);
  bool Close();

  nlohmann::json root_;
  std::vector<nlohmann::json*> open_;
  std::string last_key_;
  size_t num_values_ = 0;
  absl::Status status_;
};

}  // namespace lathe

#endif  // LATHE_DATASETS_TOKENIZERS_BOUNDED_JSON_H_
