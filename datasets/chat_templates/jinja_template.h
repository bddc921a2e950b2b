// JinjaTemplate: a chat template, rendered as transformers does it with Python's jinja2 (blocks
// trimmed, raise_exception, strftime_now, tojson with ensure_ascii off), with the places that
// transformers' {% generation %} marks.
//
//   ABSL_ASSIGN_OR_RETURN(const JinjaTemplate chat, JinjaTemplate::Parse(source, "chat.jinja"));
//   ABSL_ASSIGN_OR_RETURN(const RenderedTemplate text, chat.Render({{"messages", messages}}));
//
// Where jinja2 gives a text, this gives the same or an error, but for a few things: none and
// objects print as nothing, a list as its items joined, a float without a fraction as an integer;
// |safe has no effect on what is joined to it; split() without a separator splits at each space; a
// text's length and slices count bytes, and upper and lower change ASCII only, as trim and
// strip do. Some of what jinja2
// refuses is taken: an attribute of something undefined, an undefined or lazy value in tojson, a
// list's append, an object joined to a text.
//
// Immutable after Parse: any number of threads may render at once.
//
// Source: transformers 5.17 utils/chat_template_utils.py; the engine is llama.cpp's.
#ifndef LATHE_DATASETS_CHAT_TEMPLATES_JINJA_TEMPLATE_H_
#define LATHE_DATASETS_CHAT_TEMPLATES_JINJA_TEMPLATE_H_

#include <cstddef>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace lathe {

// Bytes [begin, end) of a text.
struct TextSpan {
  size_t begin = 0, end = 0;

  friend bool operator==(const TextSpan&, const TextSpan&) = default;
};

struct RenderedTemplate {
  std::string text;
  // What stood between {% generation %} and {% endgeneration %}, in order.
  std::vector<TextSpan> generations;
};

class JinjaTemplate {
 public:
  // `name`: what messages call it, a file usually. Errors: InvalidArgument with the name and the
  // place: no Jinja, a statement that is not known, more than 1 MiB, brackets or blocks more than
  // 100 deep, an expression of more than 2,000 words.
  static absl::StatusOr<JinjaTemplate> Parse(const std::string& source, const std::string& name);

  JinjaTemplate(JinjaTemplate&&) noexcept;
  JinjaTemplate& operator=(JinjaTemplate&&) noexcept;
  ~JinjaTemplate();

  // `variables`: an object. `now`: what strftime_now shows, the present if there is none. Errors:
  // InvalidArgument with the template's name: what raise_exception says, or what it does that
  // cannot be done, a range of more than 100,000 among that.
  absl::StatusOr<RenderedTemplate> Render(const nlohmann::ordered_json& variables,
                                          std::optional<std::time_t> now = std::nullopt) const;

  // Whether it has {% generation %}.
  bool marks_generations() const { return marks_generations_; }

 private:
  struct Program;
  JinjaTemplate(std::string name, std::unique_ptr<Program> program, bool marks_generations);

  std::string name_;
  std::unique_ptr<Program> program_;
  bool marks_generations_ = false;
};

}  // namespace lathe

#endif  // LATHE_DATASETS_CHAT_TEMPLATES_JINJA_TEMPLATE_H_
