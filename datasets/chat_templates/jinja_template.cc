#include "lathe/datasets/chat_templates/jinja_template.h"

#include <exception>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "jinja/lexer.h"
#include "jinja/parser.h"
#include "jinja/runtime.h"
#include "jinja/value.h"
#include "json.h"

namespace lathe {
namespace {

constexpr size_t kMostBytes = 1 << 20;
constexpr int kMostDepth = 100;
// What a generation's begin and end print: not UTF-8, so no variable can have it.
constexpr char kBegin[] = "\xff<", kEnd[] = "\xff>";
constexpr size_t kMarkSize = 2;

absl::Status Wrong(const std::string& name, const std::exception& error) {
  // The engine shows the place in lines of its own.
  const std::vector<std::string> words =
      absl::StrSplit(error.what(), absl::ByAnyChar(" \n\t"), absl::SkipEmpty());
  return absl::InvalidArgumentError(absl::StrCat(name, ": ", absl::StrJoin(words, " ")));
}

absl::Status CheckDepth(const std::vector<jinja::token>& tokens, const std::string& name) {
  using Token = jinja::token;
  int depth = 0;
  for (const Token& token : tokens) {
    switch (token.t) {
      case Token::open_paren:
      case Token::open_square_bracket:
      case Token::open_curly_bracket:
        ++depth;
        break;
      case Token::close_paren:
      case Token::close_square_bracket:
      case Token::close_curly_bracket:
        --depth;
        break;
      default:
        break;
    }
    if (depth > kMostDepth) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": brackets more than ", kMostDepth, " deep"));
    }
  }
  return absl::OkStatus();
}

// The engine knows {% generation %} and skips it. Whitespace around it has been trimmed when there
// are tokens, so what it stands for can be put in its place. Returns whether there was one.
bool MarkGenerations(std::vector<jinja::token>& tokens) {
  using Token = jinja::token;
  bool found = false;
  for (size_t i = 0; i + 2 < tokens.size(); ++i) {
    if (tokens[i].t != Token::open_statement || tokens[i + 1].t != Token::identifier) continue;
    const bool begins = tokens[i + 1].value == "generation";
    if (!begins && tokens[i + 1].value != "endgeneration") continue;
    found = true;
    tokens[i].t = Token::open_expression;
    tokens[i + 1].t = Token::string_literal;
    tokens[i + 1].value = begins ? kBegin : kEnd;
    tokens[i + 2].t = Token::close_expression;
  }
  return found;
}

// Takes the marks out of the text.
RenderedTemplate WithoutMarks(const std::string& marked) {
  RenderedTemplate rendered;
  size_t begin = 0, at = 0;
  while (true) {
    const size_t mark = marked.find('\xff', at);
    rendered.text.append(marked, at, mark == std::string::npos ? mark : mark - at);
    if (mark == std::string::npos) return rendered;
    if (marked[mark + 1] == kBegin[1]) {
      begin = rendered.text.size();
    } else {
      rendered.generations.push_back({begin, rendered.text.size()});
    }
    at = mark + kMarkSize;
  }
}

}  // namespace

struct JinjaTemplate::Program {
  jinja::program program;
  std::string source;
};

JinjaTemplate::JinjaTemplate(std::string name, std::unique_ptr<Program> program,
                             bool marks_generations)
    : name_(std::move(name)), program_(std::move(program)), marks_generations_(marks_generations) {}
JinjaTemplate::JinjaTemplate(JinjaTemplate&&) noexcept = default;
JinjaTemplate& JinjaTemplate::operator=(JinjaTemplate&&) noexcept = default;
JinjaTemplate::~JinjaTemplate() = default;

absl::StatusOr<JinjaTemplate> JinjaTemplate::Parse(const std::string& source,
                                                   const std::string& name) {
  if (source.size() > kMostBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, ": ", source.size(), " bytes; a chat template has at most ", kMostBytes));
  }
  try {
    jinja::lexer_result lexed = jinja::lexer().tokenize(source);
    if (absl::Status depth = CheckDepth(lexed.tokens, name); !depth.ok()) return depth;
    const bool marks = MarkGenerations(lexed.tokens);
    auto program = std::make_unique<Program>();
    program->program = jinja::parse_from_tokens(lexed);
    program->source = source;
    return JinjaTemplate(name, std::move(program), marks);
  } catch (const std::exception& error) {
    return Wrong(name, error);
  }
}

absl::StatusOr<RenderedTemplate> JinjaTemplate::Render(const nlohmann::ordered_json& variables,
                                                       std::optional<std::time_t> now) const {
  try {
    jinja::context context(program_->source);
    if (now) context.current_time = *now;
    jinja::global_from_json(context, common_json::parse(variables.dump()), /*mark_input=*/false);
    jinja::runtime runtime(context);
    const jinja::value results = runtime.execute(program_->program);
    return WithoutMarks(jinja::runtime::gather_string_parts(results)->as_string().str());
  } catch (const std::exception& error) {
    return Wrong(name_, error);
  }
}

}  // namespace lathe
