#include "lathe/base/config/help.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "lathe/base/config/did_you_mean.h"
#include "lathe/base/config/field_value.h"

namespace lathe {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

int TerminalWidth() {
  winsize size;
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 100;
}

// Builds wrapped, possibly coloured text.
class Page {
 public:
  explicit Page(const FlagsOptions& options)
      // Narrower than 40 nothing fits; wider than 120 lines are hard to read.
      : width_(std::clamp(options.width > 0 ? options.width : TerminalWidth(), 40, 120)),
        colour_(
            options.colour.value_or(isatty(STDOUT_FILENO) && std::getenv("NO_COLOR") == nullptr)) {}

  void Line(std::string_view text = "") { absl::StrAppend(&text_, text, "\n"); }

  void Heading(std::string_view text) { Line(Bold(text)); }

  // Words of `text`, broken at the width, each line indented.
  void Paragraph(std::string_view text, int indent) {
    std::string line;
    for (std::string_view word : absl::StrSplit(text, absl::ByAnyChar(" \n"), absl::SkipEmpty())) {
      if (!line.empty() && static_cast<int>(line.size() + 1 + word.size()) > width_ - indent) {
        Line(absl::StrCat(std::string(indent, ' '), line));
        line.clear();
      }
      absl::StrAppend(&line, line.empty() ? "" : " ", word);
    }
    if (!line.empty()) Line(absl::StrCat(std::string(indent, ' '), line));
  }

  std::string Bold(std::string_view text) const {
    return colour_ ? absl::StrCat("\033[1m", text, "\033[0m") : std::string(text);
  }

  int width() const { return width_; }

  std::string Take() { return std::move(text_); }

 private:
  const int width_;
  const bool colour_;
  std::string text_;
};

std::string Placeholder(const ConfigField& field) {
  std::string word;
  switch (field.field()->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return "";
    case FieldDescriptor::CPPTYPE_INT32:
    case FieldDescriptor::CPPTYPE_INT64:
      word = "INTEGER";
      break;
    case FieldDescriptor::CPPTYPE_DOUBLE:
      word = "NUMBER";
      break;
    default:
      word = field.spec().json()                ? "JSON"
             : field.spec().path()              ? "PATH"
             : field.spec().choices_size() == 0 ? "TEXT"
                                                : absl::StrJoin(field.spec().choices(), "|");
  }
  return absl::StrCat(" ", word, field.repeated() ? " ..." : "");
}

std::string DefaultText(const ConfigField& field, const Message& config) {
  const std::string text = ValueText(field, field.Parent(config));
  return text.empty() ? "none" : text;
}

std::string BoundsText(const ConfigField& field) {
  const FlagSpec& spec = field.spec();
  const auto text = [](double value) { return absl::StrCat(value); };
  std::vector<std::string> bounds;
  if (spec.has_min()) bounds.push_back(absl::StrCat("at least ", text(spec.min())));
  if (spec.has_max()) bounds.push_back(absl::StrCat("at most ", text(spec.max())));
  if (spec.has_below()) bounds.push_back(absl::StrCat("less than ", text(spec.below())));
  return absl::StrJoin(bounds, ", ");
}

std::string HuggingFaceName(const ConfigField& field) {
  if (field.spec().hugging_face() == "-") return "none: this flag is Lathe's own";
  if (!field.spec().hugging_face().empty()) return field.spec().hugging_face();
  const GroupSpec& group_spec = field.field()->containing_type()->options().GetExtension(group);
  if (group_spec.hugging_face().empty()) return "none: this flag is Lathe's own";
  return absl::StrCat(group_spec.hugging_face(), ".", field.name());
}

void AppendFlag(const ConfigField& field, const Message& config, Page& page) {
  std::string placeholder = Placeholder(field);
  std::vector<std::string> notes;
  if (static_cast<int>(field.name().size() + placeholder.size()) + 4 > page.width()) {
    // Too many choices for the line.
    placeholder = field.repeated() ? " NAME ..." : " NAME";
    notes.push_back(ExpectedText(field));
  }
  page.Line(absl::StrCat("  ", page.Bold(absl::StrCat("--", field.name())), placeholder));
  notes.push_back(absl::StrCat("default ", DefaultText(field, config)));
  if (!field.spec().unit().empty()) notes.push_back(field.spec().unit());
  if (field.spec().ratio()) notes.push_back("below 1: share of all steps");
  if (const std::string bounds = BoundsText(field); !bounds.empty()) notes.push_back(bounds);
  page.Paragraph(absl::StrCat(field.spec().help(), " [", absl::StrJoin(notes, "; "), "]"), 6);
}

// The groups that have fields, in order; nullptr stands for the root itself.
std::vector<const FieldDescriptor*> GroupsOf(const ConfigSchema& schema) {
  std::vector<const FieldDescriptor*> groups;
  for (const ConfigField& field : schema.fields()) {
    const FieldDescriptor* group = field.shown_group();
    if (std::find(groups.begin(), groups.end(), group) == groups.end()) groups.push_back(group);
  }
  return groups;
}

void AppendGroup(const ConfigSchema& schema, const Message& config, const FieldDescriptor* group,
                 Page& page) {
  page.Line();
  page.Heading(group == nullptr
                   ? "General:"
                   : absl::StrCat(GroupTitle(*group), " (--help ", group->name(), "):"));
  std::vector<std::string> absent;
  for (const ConfigField& field : schema.fields()) {
    if (field.shown_group() != group) continue;
    if (field.spec().not_implemented().empty()) {
      AppendFlag(field, config, page);
    } else {
      absent.push_back(absl::StrCat("--", field.name()));
    }
  }
  if (absent.empty()) return;
  page.Paragraph(absl::StrCat("Known from Hugging Face but not implemented in this version, and "
                              "refused unless the value asks for nothing (--explain says why): ",
                              absl::StrJoin(absent, ", "), "."),
                 2);
}

}  // namespace

absl::StatusOr<std::string> HelpText(const ConfigSchema& schema, const Message& config,
                                     const FlagsOptions& options, std::string_view group) {
  const std::vector<const FieldDescriptor*> groups = GroupsOf(schema);
  Page page(options);
  if (!group.empty()) {
    std::vector<std::string> names;
    bool found = false;
    for (const FieldDescriptor* candidate : groups) {
      if (candidate == nullptr) continue;
      names.push_back(std::string(candidate->name()));
      if (candidate->name() != group) continue;
      AppendGroup(schema, config, candidate, page);
      found = true;
    }
    if (found) return page.Take();
    return absl::InvalidArgumentError(absl::StrCat("--help ", group, ": no such group; there are ",
                                                   absl::StrJoin(names, ", "),
                                                   " (for one flag: --explain NAME)"));
  }
  page.Paragraph(options.summary, 0);
  if (!options.example.empty()) {
    page.Line();
    page.Line(absl::StrCat("  ", options.example));
  }
  page.Line();
  page.Heading("Everywhere:");
  page.Line(absl::StrCat("  ", page.Bold("--config"), " PATH"));
  page.Paragraph("Read flags from a JSON or textproto file first; flags win over it.", 6);
  page.Line(absl::StrCat("  ", page.Bold("--help"), " [GROUP]"));
  page.Paragraph("This text, or the part of it on one group.", 6);
  page.Line(absl::StrCat("  ", page.Bold("--explain"), " NAME"));
  page.Paragraph("All there is to know about one flag.", 6);
  for (const FieldDescriptor* candidate : groups) AppendGroup(schema, config, candidate, page);
  return page.Take();
}

absl::StatusOr<std::string> ExplainText(const ConfigSchema& schema, const Message& config,
                                        const FlagsOptions& options, std::string_view name) {
  absl::ConsumePrefix(&name, "--");
  if (name.empty()) return absl::InvalidArgumentError("--explain needs the name of a flag");
  const ConfigField* field = schema.Find(name);
  if (field == nullptr) {
    const std::string plain = absl::StrReplaceAll(name, {{"-", "_"}});
    return absl::InvalidArgumentError(absl::StrCat("--explain ", name, ": there is no such flag",
                                                   DidYouMean(plain, schema.Names())));
  }
  const FlagSpec& spec = field->spec();
  Page page(options);
  page.Paragraph(absl::StrCat(page.Bold(absl::StrCat("--", field->name())), Placeholder(*field)),
                 0);
  page.Paragraph(spec.help(), 2);
  for (std::string_view paragraph : absl::StrSplit(spec.details(), "\n\n", absl::SkipEmpty())) {
    page.Line();
    page.Paragraph(paragraph, 2);
  }
  if (!spec.not_implemented().empty()) {
    page.Line();
    page.Paragraph(absl::StrCat("Not implemented in this version: ", spec.not_implemented()), 2);
  }
  page.Line();
  const auto fact = [&page](std::string_view what, std::string_view text) {
    if (text.empty()) return;
    page.Paragraph(absl::StrCat(what, ": ", text), 2);
  };
  fact("Value", absl::StrCat(ExpectedText(*field), field->repeated() ? ", one or more" : ""));
  fact("Default", DefaultText(*field, config));
  fact("Unit", spec.unit());
  fact("Bounds", BoundsText(*field));
  if (spec.ratio()) fact("Below 1", "a share of all steps of the run, rounded up");
  fact("Not implemented values", absl::StrJoin(spec.absent_choices(), ", "));
  fact("Also spelled", absl::StrJoin(spec.alias(), ", "));
  fact("In a --config file", field->path());
  fact("In Hugging Face", HuggingFaceName(*field));
  return page.Take();
}

}  // namespace lathe
