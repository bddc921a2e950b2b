#include "lathe/launchers/host_list.h"

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"

namespace lathe {
namespace {

std::string Text(const absl::StatusOr<std::vector<HostSlots>>& hosts) {
  if (!hosts.ok()) return std::string(hosts.status().message());
  return absl::StrJoin(*hosts, " ", [](std::string* out, const HostSlots& host) {
    absl::StrAppend(out, host.host, ":", absl::StrJoin(host.slots, ","));
  });
}

std::vector<HostSlots> Hosts() { return *ParseHostfile("a slots=4\nb slots=2\n"); }

TEST(HostListTest, Hostfile) {
  EXPECT_EQ(Text(ParseHostfile("# the cluster\n\nb  slots=2\t# the old one\r\n  a slots=1\n#c "
                               "slots=3\n10.0.0.3 slots=1")),
            "b:0,1 a:0 10.0.0.3:0");
}

TEST(HostListTest, RefusesBadHostfilesByLine) {
  const std::pair<const char*, const char*> cases[] = {
      {"a slots=2\nb", "line 2: 'b' is not 'HOST slots=N'"},
      {"a slots=x", "line 1: "},
      {"a slots=0", "line 1: "},
      {"a slots=2000", "from 1 to 1024"},
      {"a slots=2 max_slots=4", "line 1: 'a slots=2 max_slots=4'"},
      {"-oProxyCommand=x slots=2", "line 1: "},
      {"a slots=1\n\na slots=2", "line 3: host 'a' is there twice"},
      {"# nothing\n", "no line 'HOST slots=N'"}};
  for (const auto& [text, message] : cases) {
    EXPECT_TRUE(absl::StrContains(Text(ParseHostfile(text)), message)) << Text(ParseHostfile(text));
  }
}

TEST(HostListTest, IncludeAndExclude) {
  const auto include = [](const char* text) { return Text(FilterHosts(Hosts(), text, "")); };
  const auto exclude = [](const char* text) { return Text(FilterHosts(Hosts(), "", text)); };
  EXPECT_EQ(Text(FilterHosts(Hosts(), "", "")), "a:0,1,2,3 b:0,1");
  EXPECT_EQ(include("a"), "a:0,1,2,3");
  EXPECT_EQ(include("a@b:1"), "a:0,1,2,3 b:1");
  // The hostfile's order, slots in order and once.
  EXPECT_EQ(include("b@a:2,0,2"), "a:0,2 b:0,1");
  EXPECT_EQ(include("a:0@a:3"), "a:0,3");
  EXPECT_EQ(exclude("a"), "b:0,1");
  EXPECT_EQ(exclude("a:1,3@b:0"), "a:0,2 b:1");
  EXPECT_EQ(exclude("b:0,1"), "a:0,1,2,3");
}

TEST(HostListTest, RefusesByName) {
  const auto expect = [](const char* include, const char* exclude, const char* message) {
    const std::string text = Text(FilterHosts(Hosts(), include, exclude));
    EXPECT_TRUE(absl::StrContains(text, message)) << text;
  };
  expect("a", "b", "--include and --exclude: give one of them");
  expect("a@c:1", "", "--include a@c:1: host 'c' is not in the hostfile, which has a, b");
  expect("", "c", "--exclude c: host 'c' is not in");
  expect("b:2", "", "host 'b' has no slot 2; it has 0 to 1");
  expect("", "b:-1", "host 'b' has no slot -1");
  expect("b:x", "", "'x' is no number of a slot");
  expect("b:", "", "'' is no number of a slot");
  expect("a:1:2", "", "'a:1:2' is not HOST or HOST:SLOT,SLOT");
  expect("a@", "", "'' is not HOST");
  expect("", "a@b", "--exclude a@b leaves no host");
}

}  // namespace
}  // namespace lathe
