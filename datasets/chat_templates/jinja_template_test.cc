// Against transformers: the templates of 70 public models on conversations with tools, system
// prompts and odd spacing (tests/goldens/chat_templates).
#include "lathe/datasets/chat_templates/jinja_template.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "lathe/base/read_file.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

Json Golden(const std::string& name) {
  const auto text = ReadFile("tests/goldens/chat_templates/" + name);
  EXPECT_TRUE(text.ok()) << text.status();
  return text.ok() ? Json::parse(*text) : Json();
}

std::string Fnv1a(std::string_view text) {
  uint64_t value = 0xCBF29CE484222325;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return absl::StrFormat("%016x", value);
}

Json Variables(const Json& conversation) {
  return {{"messages", conversation["messages"]},
          {"tools", conversation.contains("tools") ? conversation["tools"] : Json(nullptr)},
          {"documents", nullptr},
          {"bos_token", "<s>"},
          {"eos_token", "</s>"},
          {"pad_token", "<pad>"},
          {"unk_token", "<unk>"}};
}

// 2026-01-02 03:04:05.
constexpr std::time_t kNow = 1767323045;

std::string Digest(const absl::StatusOr<JinjaTemplate>& parsed, const Json& conversation,
                   bool add_generation_prompt) {
  if (!parsed.ok()) return "error";
  Json variables = Variables(conversation);
  variables["add_generation_prompt"] = add_generation_prompt;
  const absl::StatusOr<RenderedTemplate> rendered = parsed->Render(variables, kNow);
  return rendered.ok() ? Fnv1a(rendered->text) : "error";
}

// Where Python's jinja2 raises and this engine does not, and one where |safe makes it escape HTML.
const std::set<std::string>& KnownDifferences() {
  static const auto& known = *new std::set<std::string>{
      "CohereForAI-c4ai-command-r-plus-tool_use.jinja: a call and its answer",  // undefined.x
      "CohereForAI-c4ai-command-r-plus-tool_use.jinja: tools",
      "Kimi-K2-Instruct.jinja: a call and its answer",  // list.append
      "Kimi-K2-Thinking.jinja: a call and its answer",
      "llama-cpp-deepseek-r1.jinja: tools",  // a generator to JSON
      "llama-cpp-deepseek-r1.jinja: a call and its answer",
      "meetkai-functionary-medium-v3.1.jinja: tools",  // |safe
      "meetkai-functionary-medium-v3.1.jinja: a call and its answer",
      "meetkai-functionary-medium-v3.2.jinja: a call and its answer",  // text + object
  };
  return known;
}

TEST(JinjaTemplateTest, RendersAsTransformers) {
  setenv("TZ", "UTC", 1);
  const Json conversations = Golden("conversations.json"), goldens = Golden("renders.json");
  int num_equal = 0, num_renders = 0, num_templates_equal = 0;
  std::set<std::string> differing;
  for (const auto& [file, entries] : goldens.items()) {
    const auto source = ReadFile("external/lathe_jinja/models/templates/" + file);
    ASSERT_TRUE(source.ok()) << source.status();
    const absl::StatusOr<JinjaTemplate> parsed = JinjaTemplate::Parse(*source, file);
    bool all_equal = true;
    for (const auto& [name, digests] : entries.items()) {
      for (const bool prompt : {false, true}) {
        const std::string ours = Digest(parsed, conversations[name], prompt);
        ++num_renders;
        if (ours == digests[prompt ? 1 : 0]) {
          ++num_equal;
          continue;
        }
        all_equal = false;
        // It takes functions, a variable that transformers does not pass: all fails.
        if (file == "fireworks-ai-llama-3-firefunction-v2.jinja") continue;
        differing.insert(absl::StrCat(file, ": ", name));
        std::printf("differs: %s: %s%s: %s, expected %s %s\n", file.c_str(), name.c_str(),
                    prompt ? " (prompt)" : "", ours.c_str(),
                    digests[prompt ? 1 : 0].get<std::string>().c_str(),
                    parsed.ok() ? "" : parsed.status().ToString().c_str());
      }
    }
    num_templates_equal += all_equal ? 1 : 0;
  }
  std::printf("%d of %d renders equal, all of %d of %d templates\n", num_equal, num_renders,
              num_templates_equal, static_cast<int>(goldens.size()));
  EXPECT_THAT(differing, testing::ElementsAreArray(KnownDifferences()));
  EXPECT_EQ(num_templates_equal, 63);
}

// The marked places in bytes, transformers' in characters.
TEST(JinjaTemplateTest, MarksGenerations) {
  const Json conversations = Golden("conversations.json");
  const Json generations = Golden("generations.json");
  for (const auto& [name, golden] : generations.items()) {
    const auto parsed = JinjaTemplate::Parse(golden["template"], name);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_TRUE(parsed->marks_generations());
    for (const auto& [conversation, expected] : golden["renders"].items()) {
      SCOPED_TRACE(name + ", " + conversation);
      const auto rendered = parsed->Render(Variables(conversations[conversation]));
      ASSERT_TRUE(rendered.ok()) << rendered.status();
      EXPECT_EQ(rendered->text, expected["text"].get<std::string>());
      const auto num_characters = [&](size_t bytes) {
        int64_t count = 0;
        for (const char c : rendered->text.substr(0, bytes)) count += (c & 0xC0) != 0x80;
        return count;
      };
      std::vector<std::vector<int64_t>> places;
      for (const TextSpan& span : rendered->generations) {
        places.push_back({num_characters(span.begin), num_characters(span.end)});
      }
      EXPECT_EQ(Json(places), expected["generations"]);
    }
  }
}

std::string ErrorOf(const std::string& source, const Json& variables = Json::object()) {
  const auto parsed = JinjaTemplate::Parse(source, "chat.jinja");
  if (!parsed.ok()) return std::string(parsed.status().message());
  const auto rendered = parsed->Render(variables);
  return rendered.ok() ? "" : std::string(rendered.status().message());
}

TEST(JinjaTemplateTest, ErrorsAreOneLineWithTheTemplatesName) {
  using testing::HasSubstr;
  EXPECT_THAT(ErrorOf("{{ raise_exception('no system role') }}"),
              testing::AllOf(HasSubstr("chat.jinja: "), HasSubstr("no system role")));
  EXPECT_THAT(ErrorOf("{% for m in %}"), HasSubstr("chat.jinja: "));
  EXPECT_THAT(ErrorOf("{% nonsense %}"), HasSubstr("nonsense"));
  EXPECT_THAT(ErrorOf("{{ " + std::string(500, '(') + " }}"), HasSubstr("100 deep"));
  EXPECT_THAT(ErrorOf(std::string(2 << 20, 'x')), HasSubstr("at most 1048576"));
  EXPECT_THAT(ErrorOf("{{ x }}", {{"x", "\xff<"}}), HasSubstr("chat.jinja: "));
  for (const char* source : {"{% for m in %}", "{{ 1 + }}", "{% if x %}"}) {
    EXPECT_THAT(ErrorOf(source), testing::Not(HasSubstr("\n"))) << source;
    EXPECT_NE(ErrorOf(source), "") << source;
  }
}

TEST(JinjaTemplateTest, ThreadsRenderOneTemplate) {
  const auto parsed =
      JinjaTemplate::Parse("{% for i in range(200) %}{{ loop.index * x }} {% endfor %}", "loop");
  ASSERT_TRUE(parsed.ok());
  const std::string once = parsed->Render({{"x", 3}})->text;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) EXPECT_EQ(parsed->Render({{"x", 3}})->text, once);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace lathe
