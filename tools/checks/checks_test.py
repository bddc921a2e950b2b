"""Each check finds what it forbids, and nothing in its neighbour that is fine."""

import contextlib
import importlib.util
import io
import json
import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
TOOLS = pathlib.Path(__file__).absolute().parent.parent
sys.path.insert(0, str(TOOLS))

from checks import build_deps, cc, source, text  # pylint: disable=wrong-import-position


def errors_of(check, *arguments):
    problems = source.Problems()
    check(*arguments, problems)
    return problems.errors


def cc_errors(line, path="layers/thing.cc"):
    return errors_of(cc.check_all, [source.Source(path, line + "\n"), source.Source("base/box.h", guarded("BASE_BOX"))])


def guarded(name):
    return "#ifndef LATHE_%s_H_\n#define LATHE_%s_H_\n#endif\n" % (name, name)


def text_errors(line, path="layers/thing.cc"):
    return errors_of(text.check, source.Source(path, line + "\n"))


class CcTest(unittest.TestCase):
    def test_forbidden_lines(self):
        for line in [
            '#include "ATen/ATen.h"',
            "#include <torch/torch.h>",
            '#include "base/box.h"',
            '#include "glog/logging.h"',
            "#pragma once",
            "using namespace std;",
            "x = torch::load(path);",
            "x = at::randn({3});",
            "x = at::randn_like(y);",
            "at::manual_seed(1);",
            "x.normal_(0, 1);",
            "y = x.to(at::kFloat);",
            'std::cout << "x";',
            'printf("x");',
        ]:
            self.assertEqual(len(cc_errors(line)), 1, line)
            self.assertEqual(cc_errors(line + "  // presubmit: allow a reason"), [], line)
            self.assertEqual(cc_errors("// " + line), [], line)

    def test_neighbours_are_fine(self):
        for line in [
            '#include "ATen/core/Tensor.h"',
            '#include "lathe/base/box.h"',
            "using namespace std::literals;",
            "x = at::randperm(n, generator);",
            "x = brand(3);",
            "y = x.to(MaxWithFloat(x));",
            "snprintf(buffer, 3, format);",
        ]:
            self.assertEqual(cc_errors(line), [], line)
        self.assertEqual(cc_errors("x = at::randn({3});", "layers/thing_test.cc"), [])
        self.assertEqual(cc_errors("y = x.to(at::kFloat);", "trainer/thing.cc"), [])

    def test_guard(self):
        self.assertEqual(errors_of(cc.check_all, [source.Source("peft/lora.h", guarded("PEFT_LORA"))]), [])
        self.assertEqual(len(errors_of(cc.check_all, [source.Source("peft/lora.h", guarded("LORA"))])), 1)


class TextTest(unittest.TestCase):
    def test_forbidden(self):
        host = "pypi" + ".org"
        for line in ["see %s/simple" % host, "<" * 7 + " HEAD", "a ", "../" + "shared/x", "%s/x" % source.ROOT]:
            self.assertEqual(len(text_errors(line)), 1, line)
        self.assertEqual(text_errors("PyPI, Debian, a/b/c"), [])
        for path in ["base/util/x.cc", "base/string_util.cc", "common/x.cc", "x/StringUtils.cc", "core/x.h"]:
            self.assertEqual(len(text_errors("", path)), 1, path)
        for path in ["models/common/x.cc", "score/x.cc", "base/utility_token.cc"]:
            self.assertEqual(text_errors("", path), [], path)

    def test_size(self):
        self.assertEqual(len(text_errors("\n" * 600)), 1)
        self.assertEqual(text_errors("\n" * 500), [])
        self.assertEqual(text_errors("\n" * 900, "base/unicode_tables.cc"), [])


class DepsTest(unittest.TestCase):
    def errors(self, deps, includes):
        build = """
lathe_library(name = "b", hdrs = ["b.h"])
lathe_library(name = "facade", deps = [":b"])
lathe_library(name = "a", srcs = ["a.cc"], deps = %s)
""" % json.dumps(deps)
        return errors_of(build_deps.check_all, [
            source.Source("x/BUILD", build),
            source.Source("x/a.cc", "".join('#include "%s"\n' % include for include in includes))])

    def test_deps(self):
        self.assertEqual(self.errors([":b"], ["lathe/x/b.h"]), [])
        self.assertEqual(self.errors([":facade"], ["lathe/x/b.h", "vector"]), [])
        self.assertEqual(len(self.errors([], ["lathe/x/b.h"])), 1)
        self.assertEqual(len(self.errors([":b"], [])), 1)
        self.assertEqual(self.errors(["//third_party/absl"], ["absl/status/status.h"]), [])
        self.assertEqual(len(self.errors(["//third_party/torch"], ["absl/status/status.h"])), 2)


class CountTest(unittest.TestCase):
    def count(self, xml, status):
        path = TOOLS.parent / ".ci" / "count_tests.py"
        spec = importlib.util.spec_from_file_location("count_tests", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
            file.write(xml)
            file.flush()
            output = {"name": "test.xml", "uri": "file://" + file.name}
            with contextlib.redirect_stdout(io.StringIO()) as said:
                counts = module.cases_of({"status": status, "testActionOutput": [output]}, "//a:b")
            self.said = said.getvalue()
        return counts["passed"], counts["failed"], counts["skipped"]

    def test_counts(self):
        cases = ('<testsuites><testsuite><testcase name="a"/><testcase name="b"><skipped message="b.cc:1&#10;no disk"/>'
                 '</testcase>'
                 '<testcase name="c" status="notrun"/>%s</testsuite></testsuites>')
        self.assertEqual(self.count(cases % "", "PASSED"), (1, 0, 2))
        self.assertEqual(self.said, "skipped: //a:b: b: no disk\nskipped: //a:b: c: disabled\n")
        self.assertEqual(self.count(cases % '<testcase name="d"><failure/></testcase>', "FAILED"), (1, 1, 2))
        self.assertEqual(self.count(cases % "", "FAILED"), (1, 1, 2))
        self.assertEqual(self.count("not xml", "TIMEOUT"), (0, 1, 0))


if __name__ == "__main__":
    unittest.main()
