"""Checks of BUILD files: each dependency that is included is listed, and none else.

A BUILD file of ours is a list of calls with literal arguments, so it is run here with functions that record the calls.
"""

import re

from checks import source as files

_INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')
_LIBRARIES = ("lathe_library", "lathe_proto_library")
_RULES = _LIBRARIES + ("lathe_test", "lathe_binary", "lathe_benchmark")
# The start of an include -> the target that provides it. Test and benchmark mains come with the macros.
_THIRD_PARTY = {
    "absl/": "//third_party/absl:absl",
    "google/protobuf/": "//third_party/protobuf:protobuf",
    "re2/": "//third_party/re2:re2",
    "glog/": "//third_party/glog:glog",
    "nlohmann/": "//third_party/nlohmann_json:nlohmann_json",
    "jinja/": "//third_party/jinja:jinja",
    "json.h": "//third_party/jinja:jinja",
    "pcre2.h": "//third_party/pcre2:pcre2",
    "liburing.h": "//third_party/liburing:liburing",
    "unicode/": "//third_party/icu:icu",
    "tensorboardX/": "//third_party/tensorboard:event_proto",
    "torch/csrc/distributed/c10d/ProcessGroupGloo": "//third_party/gloo:gloo",
    "torch/csrc/distributed/c10d/ProcessGroupNCCL": "//third_party/nccl:nccl",
    "gloo/": "//third_party/gloo:gloo",
    "ATen/": "//third_party/torch:torch",
    "c10/": "//third_party/torch:torch",
    "torch/": "//third_party/torch:torch",
}


class Target:
    def __init__(self, label, rule, attributes):
        self.label, self.rule = label, rule
        self.package = label[2:].split(":")[0]
        get = attributes.get
        self.actual = get("actual")
        self.headers = list(get("hdrs", []))
        self.sources = list(get("srcs", []))
        if rule == "lathe_proto_library":
            self.headers.append(get("src")[:-len(".proto")] + ".pb.h")
        self.deps = [absolute(dep, self.package) for dep in get("deps", [])]


def absolute(label, package):
    if label.startswith(":"):
        return "//%s%s" % (package, label)
    if ":" not in label and label.startswith("//"):
        return "%s:%s" % (label, label.rsplit("/", 1)[-1])
    return label


def load(build_files, problems):
    """Returns label -> Target for everything that the BUILD files declare with rules we know."""
    targets = {}
    for file in build_files:
        package = file.path.rpartition("/")[0]

        class Recorder(dict):
            def __missing__(self, rule):
                def record(*args, **attributes):
                    name = attributes.get("name") or "?"
                    label = "//%s:%s" % (package, name)
                    if rule in _RULES or rule == "alias":
                        targets[label] = Target(label, rule, attributes)
                    return []
                return record

            def __init__(self):
                super().__init__(select=lambda branches: branches["//conditions:default"])

        try:
            exec(compile("\n".join(file.lines), file.path, "exec"), Recorder())  # pylint: disable=exec-used
        except Exception as error:  # pylint: disable=broad-except
            problems.error(file.path, "a BUILD file is a list of calls with literal arguments: %s" % error)
    return targets


def check_all(sources, problems):
    by_path = {file.path: file for file in sources}
    targets = load([file for file in sources if file.path.rpartition("/")[2] == "BUILD" and
                    not file.path.startswith(("third_party/", "examples/", "tests/layering/"))], problems)
    for target in targets.values():
        target.provided = provided(target, targets)
    owners = {}
    for target in targets.values():
        if target.rule in _LIBRARIES:
            for header in target.headers:
                owners.setdefault("lathe/%s/%s" % (target.package, header), target.label)
    for target in targets.values():
        if target.rule in _RULES and (target.sources or target.headers) and target.rule != "lathe_proto_library":
            check_target(target, targets, owners, by_path, problems)


def provided(target, targets):
    """The labels whose headers a dependency on `target` stands for: an alias or a facade without files passes on."""
    if target.actual:
        actual = absolute(target.actual, target.package)
        return {target.label} | (provided(targets[actual], targets) if actual in targets else {actual})
    labels = {target.label}
    if not target.headers and not target.sources:
        for dep in target.deps:
            labels |= provided(targets[dep], targets) if dep in targets else {dep}
    return labels


def check_target(target, targets, owners, by_path, problems):
    needed = {}
    for name in target.headers + target.sources:
        file = by_path.get("%s/%s" % (target.package, name))
        for number, line in file.code() if file else []:
            found = _INCLUDE.match(line)
            if found:
                needed.setdefault(provider(found[1], owners), "%s:%d" % (file.path, number))
    needed.pop(None, None)
    needed.pop(target.label, None)
    listed = {dep: targets[dep].provided if dep in targets else {dep} for dep in target.deps}
    for label, place in needed.items():
        if not any(label in labels for labels in listed.values()):
            problems.error(place, "%s includes this, so its deps are to list %s" % (target.label, label))
    for dep, labels in listed.items():
        if not labels & set(needed) and not dep.startswith("//third_party/gtest"):
            if dep in targets and targets[dep].rule in _LIBRARIES and not targets[dep].headers:
                continue  # Linked for its registrations.
            problems.error("%s/BUILD" % target.package, "%s includes nothing of %s" % (target.label, dep))


def provider(header, owners):
    if header in owners:
        return owners[header]
    for start, label in _THIRD_PARTY.items():
        if header.startswith(start):
            return label
    return None


def check_documented(sources, problems):
    """Every outside dependency has its line in docs/dependencies.md."""
    text = (files.ROOT / "docs" / "dependencies.md").read_text()
    for file in sources:
        parts = file.path.split("/")
        if parts[0] == "third_party" and len(parts) == 3 and parts[2] == "BUILD" and parts[1] != "fetch":
            if "`third_party/%s`" % parts[1] not in text:
                problems.error(file.path, "docs/dependencies.md has no line for `third_party/%s`" % parts[1])


def check_layering_rows(sources, problems):
    """Every folder of tools/layering.bzl that exists has its line in tests/layering/BUILD."""
    table = {}
    exec((files.ROOT / "tools" / "layering.bzl").read_text(), table)  # pylint: disable=exec-used
    tested = (files.ROOT / "tests" / "layering" / "BUILD").read_text()
    paths = {file.path for file in sources}
    for folder in table["UNREACHABLE"]:
        if folder + "/BUILD" in paths and 'layering_test("%s",' % folder not in tested:
            problems.error("tests/layering/BUILD", "no layering_test for %s" % folder)
