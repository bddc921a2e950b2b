#include "lathe/launchers/host_list.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "lathe/base/read_file.h"

namespace lathe {
namespace {

constexpr int kMostSlots = 1024;

absl::StatusOr<HostSlots> ParseLine(std::string_view line) {
  const std::vector<std::string_view> words =
      absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
  int count = 0;
  std::string_view number = words.size() == 2 ? words[1] : "";
  // A name that begins with '-' would be an option to ssh.
  if (words.size() != 2 || !absl::ConsumePrefix(&number, "slots=") ||
      !absl::SimpleAtoi(number, &count) || count < 1 || count > kMostSlots || words[0][0] == '-') {
    return absl::InvalidArgumentError(
        absl::StrCat("'", line, "' is not 'HOST slots=N', with N from 1 to ", kMostSlots));
  }
  HostSlots host{std::string(words[0]), std::vector<int>(count)};
  std::iota(host.slots.begin(), host.slots.end(), 0);
  return host;
}

using Selection = std::map<std::string, std::set<int>, std::less<>>;

const HostSlots* Find(const std::vector<HostSlots>& hosts, std::string_view name) {
  for (const HostSlots& host : hosts) {
    if (host.host == name) return &host;
  }
  return nullptr;
}

// Which hosts and slots a filter names; no slots: all of the host's.
absl::StatusOr<Selection> ParseFilter(const std::vector<HostSlots>& hosts, std::string_view flag,
                                      std::string_view text) {
  const auto error = [&](const auto&... what) {
    return absl::InvalidArgumentError(absl::StrCat(flag, " ", text, ": ", what...));
  };
  Selection selection;
  for (const std::string_view part : absl::StrSplit(text, '@')) {
    const std::vector<std::string_view> sides = absl::StrSplit(part, ':');
    if (sides.size() > 2 || sides[0].empty()) {
      return error("'", part, "' is not HOST or HOST:SLOT,SLOT");
    }
    const HostSlots* host = Find(hosts, sides[0]);
    if (host == nullptr) {
      return error("host '", sides[0], "' is not in the hostfile, which has ",
                   absl::StrJoin(hosts, ", ", [](std::string* out, const HostSlots& h) {
                     absl::StrAppend(out, h.host);
                   }));
    }
    std::set<int>& slots = selection[host->host];
    if (sides.size() == 1) continue;
    for (const std::string_view word : absl::StrSplit(sides[1], ',')) {
      int slot = 0;
      if (!absl::SimpleAtoi(word, &slot)) return error("'", word, "' is no number of a slot");
      if (std::find(host->slots.begin(), host->slots.end(), slot) == host->slots.end()) {
        return error("host '", host->host, "' has no slot ", slot, "; it has 0 to ",
                     host->slots.back());
      }
      slots.insert(slot);
    }
  }
  return selection;
}

}  // namespace

absl::StatusOr<std::vector<HostSlots>> ParseHostfile(std::string_view text) {
  std::vector<HostSlots> hosts;
  int number = 0;
  for (std::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    absl::StatusOr<HostSlots> host = ParseLine(line);
    if (host.ok() && Find(hosts, host->host) != nullptr) {
      host = absl::InvalidArgumentError(absl::StrCat("host '", host->host, "' is there twice"));
    }
    if (!host.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("line ", number, ": ", host.status().message()));
    }
    hosts.push_back(*std::move(host));
  }
  if (hosts.empty()) return absl::InvalidArgumentError("no line 'HOST slots=N'");
  return hosts;
}

absl::StatusOr<std::vector<HostSlots>> ReadHostfile(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) {
    return absl::Status(text.status().code(), absl::StrCat("--hostfile ", text.status().message()));
  }
  absl::StatusOr<std::vector<HostSlots>> hosts = ParseHostfile(*text);
  if (hosts.ok()) return hosts;
  return absl::InvalidArgumentError(
      absl::StrCat("--hostfile ", path, ": ", hosts.status().message()));
}

absl::StatusOr<std::vector<HostSlots>> FilterHosts(const std::vector<HostSlots>& hosts,
                                                   std::string_view include,
                                                   std::string_view exclude) {
  if (!include.empty() && !exclude.empty()) {
    return absl::InvalidArgumentError("--include and --exclude: give one of them");
  }
  if (include.empty() && exclude.empty()) return hosts;
  const bool includes = !include.empty();
  const std::string_view flag = includes ? "--include" : "--exclude";
  ABSL_ASSIGN_OR_RETURN(const Selection selection,
                        ParseFilter(hosts, flag, includes ? include : exclude));
  std::vector<HostSlots> left;
  for (const HostSlots& host : hosts) {
    const auto found = selection.find(host.host);
    const auto is_chosen = [&](int slot) {
      const bool named =
          found != selection.end() && (found->second.empty() || found->second.contains(slot));
      return named == includes;
    };
    HostSlots kept{host.host, {}};
    std::copy_if(host.slots.begin(), host.slots.end(), std::back_inserter(kept.slots), is_chosen);
    if (!kept.slots.empty()) left.push_back(std::move(kept));
  }
  if (left.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(flag, " ", includes ? include : exclude, " leaves no host"));
  }
  return left;
}

}  // namespace lathe
