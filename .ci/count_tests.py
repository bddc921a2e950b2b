"""Prints "N passed, M failed, K skipped" for a CI run; the exit code is 1 if anything failed.

usage: count_tests.py OUTCOMES BUILD_EVENTS...

OUTCOMES holds lines "NAME STATUS" of steps that are not Bazel tests. BUILD_EVENTS are files that Bazel wrote with
--build_event_json_file. A GoogleTest counts with each of its test cases, any other test as one, and a test that did not
build as one failure.
"""

import collections
import json
import sys
import urllib.parse
import xml.etree.ElementTree


def events(path):
    try:
        with open(path) as file:
            for line in file:
                yield json.loads(line)
    except (OSError, ValueError):
        return  # Bazel did not get as far; the step's own outcome says so.


def cases_of(result, label):
    """Counts the cases in the test.xml of one run of a test; says which were skipped and why."""
    counts = collections.Counter()
    for output in result.get("testActionOutput", []):
        if output.get("name") == "test.xml":
            path = urllib.parse.unquote(urllib.parse.urlparse(output["uri"]).path)
            try:
                root = xml.etree.ElementTree.parse(path).getroot()
            except (OSError, xml.etree.ElementTree.ParseError):
                continue
            for case in root.iter("testcase"):
                if case.find("failure") is not None or case.find("error") is not None:
                    counts["failed"] += 1
                elif case.find("skipped") is not None or case.get("status") == "notrun":
                    counts["skipped"] += 1
                    skip = case.find("skipped")
                    # GoogleTest: "file:line\nreason".
                    reason = "disabled" if skip is None else (skip.get("message") or "").split("\n")[-1]
                    print("skipped: %s: %s: %s" % (label, case.get("name"), reason))
                else:
                    counts["passed"] += 1
    passed = result.get("status") in ("PASSED", "FLAKY")
    if not counts:
        counts["passed" if passed else "failed"] = 1
    elif not passed and not counts["failed"]:
        counts["failed"] = 1  # A crash after the last case, or a time limit.
    return counts


def main(outcomes, event_files):
    total, failures = collections.Counter(), []
    with open(outcomes) as file:
        for line in file:
            name, status = line.rsplit(" ", 1)
            total["passed" if int(status) == 0 else "failed"] += 1
            if int(status) != 0:
                failures.append(name)
    for path in event_files:
        runs, unbuilt = {}, []
        for event in events(path):
            identity = event.get("id", {})
            if "testResult" in event:
                key = identity["testResult"]
                # Later attempts of the same run and shard replace earlier ones.
                runs[key["label"], key.get("run"), key.get("shard")] = event["testResult"]
            elif event.get("testSummary", {}).get("overallStatus") in ("NO_STATUS", "FAILED_TO_BUILD"):
                unbuilt.append(identity["testSummary"]["label"])
        for (label, _, _), result in runs.items():
            counts = cases_of(result, label)
            total += counts
            if counts["failed"]:
                failures.append(label)
        for label in set(unbuilt) - {label for label, _, _ in runs}:
            total["failed"] += 1
            failures.append(label + " (did not build)")
    for failure in failures:
        print("failed: " + failure)
    print("%d passed, %d failed, %d skipped" % (total["passed"], total["failed"], total["skipped"]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
