#ifndef LATHE_CHECKPOINT_JSON_LIMITS_H_
#define LATHE_CHECKPOINT_JSON_LIMITS_H_

// Bounds on JSON text that comes from a foreign file, checked before a parser sees it, and the base
// of the event handlers that read it. The parser behind (nlohmann's SAX) needs no memory per level
// or per element, but it buffers each token and quotes it in its error messages, several times
// over: 100 MB of line feeds before a mistake would make a message of almost 1 GB. With every token
// bounded it stays small.
//
//   class IndexHandler : public JsonEvents { ... bool key(string_t& name) override; ... };
//   IndexHandler handler;
//   ABSL_RETURN_IF_ERROR(ParseJson(text, handler));
//
// Thread rule: no shared state.

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"

namespace lathe {

// Events of a document. Every event is refused unless the derived class takes it; an event returns
// Refuse(message) to stop the parse with that message.
class JsonEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return Refuse("null is not expected here"); }
  bool boolean(bool) override { return Refuse("true or false is not expected here"); }
  // Called for every number with a minus sign.
  bool number_integer(number_integer_t) override { return Refuse("a negative number"); }
  bool number_unsigned(number_unsigned_t) override {
    return Refuse("a number is not expected here");
  }
  // Called for fractions, exponents and whole numbers of 2^64 and more.
  bool number_float(number_float_t, const string_t& text) override;
  bool string(string_t&) override { return Refuse("a string is not expected here"); }
  bool binary(binary_t&) override { return Refuse("binary is not expected here"); }
  bool start_object(std::size_t) override { return Refuse("an object is not expected here"); }
  bool key(string_t&) override { return Refuse("a key is not expected here"); }
  bool end_object() override { return true; }
  bool start_array(std::size_t) override { return Refuse("an array is not expected here"); }
  bool end_array() override { return true; }
  bool parse_error(std::size_t position, const std::string& last_token,
                   const nlohmann::json::exception& error) final;

  const absl::Status& status() const { return status_; }

 protected:
  // Keeps the first message as an InvalidArgument and returns false.
  bool Refuse(std::string_view message);

 private:
  absl::Status status_;
};

// Feeds `text` (UTF-8) to `events`.
// Errors: InvalidArgument with the byte position for text that is no JSON, is not UTF-8, has a
// string longer than 16 MiB or another token (or white space) longer than 4096 bytes; what `events`
// refused.
absl::Status ParseJson(std::string_view text, JsonEvents& events);

}  // namespace lathe

#endif  // LATHE_CHECKPOINT_JSON_LIMITS_H_
