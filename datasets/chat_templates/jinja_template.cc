#include "lathe/datasets/chat_templates/jinja_template.h"

#include <cstdint>
#include <exception>
#include <set>
#include <stdexcept>
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
constexpr int kMostWords = 2000;  // of one statement or expression
constexpr int kMostInRange = 100'000;
// What a generation's begin and end print: not UTF-8, so no variable can have it.
constexpr char kBegin[] = "\xff<", kEnd[] = "\xff>";
constexpr size_t kMarkSize = 2;

absl::Status Wrong(const std::string& name, const std::exception& error) {
  // The engine shows the place in lines of its own.
  const std::vector<std::string> words =
      absl::StrSplit(error.what(), absl::ByAnyChar(" \n\t"), absl::SkipEmpty());
  return absl::InvalidArgumentError(absl::StrCat(name, ": ", absl::StrJoin(words, " ")));
}

// Parser and program go as deep as blocks and brackets are nested and as an expression is long:
// what would exhaust the stack is refused.
class ShapeCheck {
 public:
  using Token = jinja::token;

  explicit ShapeCheck(const std::vector<Token>& tokens) : tokens_(tokens) {}

  // What is too deep or too long; "" if nothing is.
  std::string Find() {
    for (size_t i = 0; i < tokens_.size(); ++i) {
      Count(i);
      if (num_brackets_ > kMostDepth)
        return absl::StrCat("brackets more than ", kMostDepth, " deep");
      if (depth_ > kMostDepth) return absl::StrCat("blocks more than ", kMostDepth, " deep");
      if (num_words_ > kMostWords) {
        return absl::StrCat("an expression of more than ", kMostWords, " words");
      }
    }
    return "";
  }

 private:
  void Count(size_t i) {
    switch (tokens_[i].t) {
      case Token::open_paren:
      case Token::open_square_bracket:
      case Token::open_curly_bracket:
        ++num_brackets_;
        break;
      case Token::close_paren:
      case Token::close_square_bracket:
      case Token::close_curly_bracket:
        --num_brackets_;
        break;
      case Token::open_statement:
        CountBlock(i + 1);
        num_words_ = 0;
        break;
      case Token::text:
      case Token::comment:
      case Token::open_expression:
        num_words_ = 0;
        break;
      default:
        break;
    }
    ++num_words_;
  }

  // The statement that begins at `first`.
  void CountBlock(size_t first) {
    static const auto& begin = *new std::set<std::string>{"if", "for", "macro", "call", "filter"};
    static const auto& end =
        *new std::set<std::string>{"endif", "endfor", "endmacro", "endcall", "endfilter", "endset"};
    if (first >= tokens_.size()) return;
    const std::string& word = tokens_[first].value;
    if (begin.contains(word) || (word == "set" && !Assigns(first))) {
      blocks_.push_back(1);
      ++depth_;
    } else if (word == "elif" && !blocks_.empty()) {
      // The engine nests the branches of an if in one another.
      ++blocks_.back();
      ++depth_;
    } else if (end.contains(word) && !blocks_.empty()) {
      depth_ -= blocks_.back();
      blocks_.pop_back();
    }
  }

  bool Assigns(size_t first) const {
    for (size_t i = first; i < tokens_.size() && tokens_[i].t != Token::close_statement; ++i) {
      if (tokens_[i].t == Token::equals) return true;
    }
    return false;
  }

  const std::vector<Token>& tokens_;
  int num_brackets_ = 0, num_words_ = 0, depth_ = 0;
  std::vector<int> blocks_;  // what each open block adds to the depth
};

// As Python's sandbox, which ends what would fill the memory.
jinja::value Range(const jinja::func_args& args) {
  std::vector<int64_t> bounds;
  for (size_t i = 0; i < args.count(); ++i) {
    const jinja::value bound = args.get_pos(i);
    if (jinja::is_val<jinja::value_int>(bound)) bounds.push_back(bound->as_int());
  }
  if (bounds.size() == args.count() && !bounds.empty()) {
    const double begin = bounds.size() > 1 ? static_cast<double>(bounds[0]) : 0.0;
    const double end = static_cast<double>(bounds.size() > 1 ? bounds[1] : bounds[0]);
    const double step = bounds.size() > 2 ? static_cast<double>(bounds[2]) : 1.0;
    if (step != 0.0 && (end - begin) / step > kMostInRange) {
      throw std::runtime_error(absl::StrCat("range has more than ", kMostInRange, " numbers"));
    }
  }
  return jinja::global_builtins().at("range")(args);
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
    if (const std::string found = ShapeCheck(lexed.tokens).Find(); !found.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": ", found));
    }
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
    context.set_val("range", jinja::mk_val<jinja::value_func>("range", Range));
    jinja::global_from_json(context, common_json::parse(variables.dump()), /*mark_input=*/false);
    jinja::runtime runtime(context);
    const jinja::value results = runtime.execute(program_->program);
    return WithoutMarks(jinja::runtime::gather_string_parts(results)->as_string().str());
  } catch (const std::exception& error) {
    return Wrong(name_, error);
  }
}

}  // namespace lathe
