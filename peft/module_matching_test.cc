// Against real peft on made-up configurations (tests/goldens/peft), and what is refused.
#include "lathe/peft/module_matching.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace lathe {
namespace {

using nlohmann::json;
using testing::HasSubstr;

json Golden() {
  // More of them, made by make_matching.py with a count: LATHE_MATCHING_GOLDEN.
  const char* other = std::getenv("LATHE_MATCHING_GOLDEN");
  std::ifstream file(other != nullptr ? other : "tests/goldens/peft/matching.json");
  EXPECT_TRUE(file.is_open());
  return json::parse(file);
}

ModuleNames Names(const json& config, const char* key) {
  if (!config.contains(key)) return {};
  if (config[key].is_string()) return {.pattern = config[key].get<std::string>()};
  return {.names = config[key].get<std::vector<std::string>>()};
}

template <typename T>
std::vector<T> List(const json& config, const char* key) {
  if (!config.contains(key)) return {};
  if (!config[key].is_array()) return {config[key].get<T>()};
  return config[key].get<std::vector<T>>();
}

TEST(ModuleMatcherTest, IsPefts) {
  const json golden = Golden();
  int num_equal = 0, num_names = 0;
  for (const json& c : golden["cases"]) {
    const auto matcher =
        ModuleMatcher::Create({.target_modules = Names(c, "target_modules"),
                               .exclude_modules = Names(c, "exclude_modules"),
                               .modules_to_save = List<std::string>(c, "modules_to_save"),
                               .layers_to_transform = List<int>(c, "layers_to_transform"),
                               .layers_pattern = List<std::string>(c, "layers_pattern")});
    ASSERT_TRUE(matcher.ok()) << matcher.status() << c;
    for (size_t i = 0; i < c["names"].size(); ++i, ++num_names) {
      const std::string name = c["names"][i];
      const bool expected = c["matches"][i];
      EXPECT_EQ(matcher->Matches(name), expected) << name << " " << c;
      num_equal += matcher->Matches(name) == expected ? 1 : 0;
    }
  }
  std::printf("%d of %d names equal\n", num_equal, num_names);
  EXPECT_GE(num_names, 500);
}

TEST(PatternKeysTest, IsPefts) {
  const json golden = Golden();
  ASSERT_GT(golden["patterns"].size(), 20u);
  for (const json& c : golden["patterns"]) {
    const auto keys = PatternKeys::Create(c["keys"], "rank_pattern");
    ASSERT_TRUE(keys.ok()) << keys.status();
    for (size_t i = 0; i < c["names"].size(); ++i) {
      const std::optional<std::string> found = keys->Find(c["names"][i].get<std::string>());
      EXPECT_EQ(found ? json(*found) : json(nullptr), c["found"][i]) << c["names"][i] << " " << c;
    }
  }
}

std::string ErrorOf(const TargetRules& rules) {
  return std::string(ModuleMatcher::Create(rules).status().message());
}

TEST(ModuleMatcherTest, WhatRe2HasNotIsRefusedWithWhatToDo) {
  const auto error = [](const char* pattern) {
    return ErrorOf({.target_modules = {.pattern = pattern}});
  };
  EXPECT_EQ(error(".*(?!k_proj).*"),
            "target_modules '.*(?!k_proj).*' has look-around, which expressions here do not have "
            "(RE2); list the modules by name, or put what is not wanted into exclude_modules");
  EXPECT_THAT(error("(?<=q)_proj"), HasSubstr("look-around"));
  EXPECT_THAT(error(R"((\w)\1_proj)"), HasSubstr("a back-reference"));
  EXPECT_THAT(error("(?P<a>q)(?P=a)"), HasSubstr("a back-reference"));
  EXPECT_THAT(error("(?>q|k)_proj"), HasSubstr("an atomic group"));
  EXPECT_THAT(error("q++_proj"), HasSubstr("a possessive quantifier"));
  EXPECT_THAT(error("[[:alpha:]]+"), HasSubstr("no class of characters in Python"));
  EXPECT_THAT(error("*q"), HasSubstr("target_modules '*q' is no regular expression"));
  // Not what they look like.
  EXPECT_EQ(error(R"(\(?=q|[(?=]q|\++)"), "");
}

TEST(ModuleMatcherTest, WhatPythonReadsOtherwiseIsPutRight) {
  const auto matches = [](const char* pattern, const char* name) {
    return ModuleMatcher::Create({.target_modules = {.pattern = pattern}})->Matches(name);
  };
  EXPECT_TRUE(matches(R"(layers\.\d{,2}\.q)", "layers.12.q"));
  EXPECT_TRUE(matches(R"(layers\.\d{,2}\.q)", "layers..q"));
  EXPECT_FALSE(matches(R"(layers\.\d{,2}\.q)", "layers.123.q"));
  EXPECT_TRUE(matches(R"(.*q_proj\Z)", "a.q_proj"));
  EXPECT_TRUE(matches("[]a]+[^]b]", "]a]c"));
}

TEST(ModuleMatcherTest, WhatDoesNotGoTogether) {
  EXPECT_THAT(ErrorOf({}), HasSubstr("target_modules: which modules to adapt is not given"));
  EXPECT_THAT(ErrorOf({.target_modules = {.pattern = "q"}, .layers_to_transform = {1}}),
              HasSubstr("layers_to_transform does not go with an expression"));
  EXPECT_THAT(ErrorOf({.target_modules = {.names = {"q"}}, .layers_pattern = {"h"}}),
              HasSubstr("layers_pattern needs layers_to_transform"));
}

}  // namespace
}  // namespace lathe
