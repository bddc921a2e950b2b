"""Where a build's compile time went, from the profile that Bazel writes. Best effort: it never fails.

The seconds are of the clock, one compiler each: CPU-seconds while nothing else keeps the machine busy.
"""

import collections
import gzip
import json
import re

_COMPILING = re.compile(r"Compiling (\S+)")


def report(profile, top=15):
    """Prints the seconds of compiling per folder and of the slowest files."""
    try:
        with gzip.open(profile) as file:
            events = json.load(file)["traceEvents"]
    except (OSError, ValueError, KeyError) as error:
        print("compile seconds: no profile (%s)" % error)
        return
    # An action's time includes waiting for a core; the run of its compiler, on the same thread, does not.
    actions = [event for event in events if event.get("cat") == "action processing"]
    runs = [event for event in events if event.get("cat") == "local action execution"]
    seconds = {}
    for action in actions:
        found = _COMPILING.match(action["name"])
        if found:
            end = action["ts"] + action.get("dur", 0)
            seconds[found[1]] = sum(
                run.get("dur", 0) for run in runs
                if run["tid"] == action["tid"] and action["ts"] <= run["ts"] < end) / 1e6
    compiled = {path: value for path, value in seconds.items() if value > 0}
    if not compiled:
        print("compile seconds: nothing was compiled")
        return
    folders = collections.Counter()
    for path, value in compiled.items():
        folder = "third_party" if path.startswith(("external/", "src/", "absl/", "re2/")) else path.split("/")[0]
        folders[folder] += value
    print("compile seconds: %.0f in %d files" % (sum(compiled.values()), len(compiled)))
    for folder, value in folders.most_common():
        print("  %7.1f  %s/" % (value, folder))
    ours = [path for path in compiled if "third_party" not in path and not path.startswith(("external/", "src/"))]
    for path in sorted(ours, key=compiled.get, reverse=True)[:top]:
        print("  %7.1f  %s" % (compiled[path], path))
